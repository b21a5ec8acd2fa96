#!/usr/bin/env bash
# try.sh CACHE [COMPOSE...] runs two institutions of compose.yaml on this machine, each in a project of its own, and trains
# the model of the reference job with them. Then it restarts each service in turn while a job runs. It ends with an error
# if a job does not end with SUCCESS, or if one institution reaches services of the other. CACHE keeps the programs of images.sh, which it
# builds unless the four images in VARIABLES=FILE are given. COMPOSE is docker compose, or docker-compose. Run it as root.
# KEEP=1 leaves everything running. PORT is the first of 20 ports. RESTARTS lists the services to restart.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,7s/^# //p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=$1
shift
compose=("$@")
if [ $# = 0 ]; then
  compose=(docker-compose)
  if docker compose version >/dev/null 2>&1; then compose=(docker compose); fi
fi
port=${PORT:-21380}
a=TRY0000000000000A b=TRY0000000000000B
work=$(mktemp -d /tmp/hutong-compose.XXXXXX)
dc() { local dir=$1; shift; (cd "$work/$dir" && "${compose[@]}" "$@"); }
hutong() { local dir=$1; shift; dc "$dir" run --rm -T client "$@" </dev/null; }
finish() {
  status=$?
  set +e
  if [ $status != 0 ]; then for d in a b; do dc $d ps -a; dc $d logs --no-color --tail 30; done; fi
  if [ "${KEEP:-}" = 1 ]; then
    echo "everything runs on in $work"
    exit $status
  fi
  for d in a b; do dc $d down -v --remove-orphans >"$work/down" 2>&1 || cat "$work/down"; done
  # The runner makes the network of its containers, and the containers of tasks belong to no project.
  for n in $a $b; do
    docker ps -aq --filter "network=hutong-${n,,}" | xargs -r docker rm -f >/dev/null
    docker network rm "hutong-${n,,}" >/dev/null 2>&1
  done
  rm -rf "$work"
  exit $status
}
trap finish EXIT
"${compose[@]}" version
images=${VARIABLES:-$work/images}
[ -n "${VARIABLES:-}" ] || "$here/images.sh" "$cache" "$images"

step() { echo "$(date +%T) $*"; }

# succeed ID waits until a job has ended, also while services are away, and fails unless both parties say SUCCESS.
succeed() {
  local d state
  for d in a b; do
    for try in $(seq 60); do
      hutong $d job watch "$1" >"$work/watched" 2>&1 || true
      state=$(hutong $d job list 2>>"$work/watched" | awk -v id="$1" '$1 == id { print $2 }') || true
      case $state in
        SUCCESS) break ;;
        "" | PENDING | READY | RUNNING) [ "$try" != 60 ] || { cat "$work/watched"; return 1; } ;;
        *) cat "$work/watched"; hutong $d job show "$1"; return 1 ;;
      esac
      sleep 1
    done
  done
  tail -n 1 "$work/watched"
}

step "two institutions are set up"
"$here/setup.sh" "$work/a" $a bank-a.example "$port" bank-b.example
"$here/setup.sh" "$work/b" $b bank-b.example "$((port + 10))" bank-a.example
for d in a b; do cat "$images" >>"$work/$d/.env"; dc $d up -d; done
for d in a b; do
  hutong $d token create --direct --name admin --roles admin >"$work/$d/token"
  install -m 0600 "$work/$d/token" "$work/$d/party/admin.token"
  rm "$work/$d/token"
  for try in $(seq 60); do
    hutong $d runner list >"$work/runners" 2>&1 && grep -q online "$work/runners" && break
    [ "$try" != 60 ] || { cat "$work/runners"; exit 1; }
    sleep 1
  done
done

step "they become partners"
fingerprint() { dc "$1" run --rm -T client cert show </dev/null | sed -n 's/^fingerprint *//p'; }
invitation=$(hutong a partner invite $b | grep -o 'hutong-invitation-[^ ]*')
hutong b partner accept "$invitation" --fingerprint "$(fingerprint a)"
hutong a partner accept $b --fingerprint "$(fingerprint b)"
for d in a b; do
  other=$b
  [ $d = a ] || other=$a
  cp "$root/providers/reference/provider.json" "$work/$d/files/"
  hutong $d provider register provider.json
  hutong $d grant add --partner $other --component 'hutong/*' --dataset 'demo#*'
done
cp "$root/testdata/breast/guest.csv" "$work/a/files/" && cp "$root/testdata/breast/host.csv" "$work/b/files/"
hutong a data upload --file guest.csv --namespace demo --name breast_guest --id id --label y --partitions 4
hutong b data upload --file host.csv --namespace demo --name breast_host --id id --partitions 4
hutong a job probe $b
sed -e "s/JG0100001100000010/$a/g" -e "s/JG0110017800000000/$b/g" "$root/deploy/demo/job.json" >"$work/a/files/job.json"

step "they train a model"
id=$(hutong a job submit job.json | tail -n 1)
succeed "$id"
hutong a job outputs "$id"

step "each service restarts while a job runs"
for service in ${RESTARTS:-postgres temporal s3 api control transport runner}; do
  id=$(hutong a job submit job.json | tail -n 1)
  seconds=$SECONDS
  for d in a b; do
    dc $d restart "$service" >"$work/restarted" 2>&1 || { cat "$work/restarted"; exit 1; }
    hutong a job list >"$work/jobs" 2>&1 || true
    step "$service of institution $d has restarted; the job: $(awk -v id="$id" '$1 == id { print $2 }' "$work/jobs")"
  done
  succeed "$id"
  step "the job of $service has ended with SUCCESS, $((SECONDS - seconds)) s after its submission"
done

step "the institutions are apart"
network() { docker network inspect -f '{{.Id}}' "hutong-${1,,}_default"; }
address() { docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$(dc "$1" ps -q "$2")"; }
reach() { # reach NODE HOST PORT from a container in the institution's network
  docker run --rm --network "$(network "$1")" --add-host "bank-b.example:host-gateway" --entrypoint sh \
    "$(sed -n 's/^TEMPORAL_TOOLS_IMAGE=//p' "$images")" -c "nc -w 3 $2 $3 </dev/null >/dev/null 2>&1"
}
reach $a bank-b.example "$((port + 10))" || { echo "the port for partners is not reached"; exit 1; }
reach $a postgres 5432 || { echo "an institution does not reach its own database"; exit 1; }
for target in "$(address b postgres) 5432" "$(address b temporal) 7233" "$(address b s3) 7070" "$(address b api) 9380" \
  "bank-b.example $((port + 12))" "bank-b.example $((port + 14))" "bank-b.example $((port + 15))" "bank-b.example $((port + 16))"; do
  # shellcheck disable=SC2086
  if reach $a $target; then echo "institution a reaches $target of institution b"; exit 1; fi
done
step "two institutions have trained the model, and each service was restarted"
