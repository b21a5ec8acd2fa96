#!/usr/bin/env bash
# setup.sh DIR NODE_ID HOST BASE_PORT [PARTNER_HOST]
#
# Writes what one institution needs to run with docker compose into DIR: the compose files, .env, passwords, certificates
# and the party's configuration. Run it as root. HOST is the name by which partners reach this machine, at the ports
# BASE_PORT and BASE_PORT+1; the next seven are used on the loopback interface. With PARTNER_HOST, a partner on this
# same machine has that name.
# HUTONG_IMAGE is Hutong's image, by default the one that make image or docker load has loaded last.
# Run again, it renews the certificates and keeps keys, passwords and the configuration.
set -euo pipefail
[ $# = 4 ] || [ $# = 5 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "run this as root: files belong to the users of the containers" >&2; exit 1; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd) node=$2 host=$3 port=$4 partner=${5:-}
image=${HUTONG_IMAGE:-$(docker image ls --format '{{.Repository}}:{{.Tag}}' hutong/hutong | head -n 1)}
[ -n "$image" ] || { echo "there is no image hutong/hutong: run make image, or docker load, or set HUTONG_IMAGE" >&2; exit 1; }
umask 077
mkdir -p "$dir/party" "$dir/services" "$dir/runner" "$dir/files"

# The users of the images: Hutong's 65530, PostgreSQL's 999 (Debian's variant), Temporal's 1000; S3 runs as root.
certificate() { # certificate FILE GROUP [--host NAMES]
  docker run --rm --user 0:0 --network none -v "$dir:/dir" "$image" cert init "$node" "/dir/$1" "${@:3}" >/dev/null
  chown "0:$2" "$dir/$1" && chmod 0640 "$dir/$1"
}
certificate party/partners.pem 65530
certificate party/api.pem 65530 --host "api,localhost,127.0.0.1,$host"
certificate services/postgres.pem 999 --host postgres,localhost,127.0.0.1
certificate services/temporal.pem 1000 --host temporal,localhost,127.0.0.1
certificate services/s3.pem 0 --host s3,localhost,127.0.0.1
# Temporal's database holds parameters of jobs: they are encrypted.
[ -d "$dir/party/keys" ] ||
  docker run --rm --user 0:0 --network none -v "$dir:/dir" "$image" key create --use /dir/party/keys >/dev/null
chown -R 0:65530 "$dir/party/keys" && chmod -R u=rwX,g=rX,o= "$dir/party/keys"
# What clients trust: the certificates without their keys.
for name in services/postgres services/temporal services/s3 party/api; do
  sed -n '/BEGIN CERTIFICATE/,/END CERTIFICATE/p' "$dir/$name.pem"
done >"$dir/party/services.crt"
chmod 0644 "$dir/party/services.crt"

secret() { [ -s "$dir/services/$1" ] || head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$dir/services/$1"; cat "$dir/services/$1"; }
postgres=$(secret postgres_password) temporal=$(secret temporal_password) s3=$(secret s3_password)
write() { # write FILE, if it does not exist, for Hutong's user
  [ -e "$dir/party/$1" ] || cat >"$dir/party/$1"
  chown 0:65530 "$dir/party/$1" && chmod 0640 "$dir/party/$1"
}
write database_url <<<"postgres://hutong:$postgres@postgres:5432/hutong"
write storage_url <<<"s3://s3:7070?username=hutong&password=$s3&bucket=hutong"
write database_url.runner <<<"postgres://hutong:$postgres@127.0.0.1:$((port + 4))/hutong?sslmode=verify-full"
write storage_url.runner <<<"s3://127.0.0.1:$((port + 6))?username=hutong&password=$s3&bucket=hutong&secure=true"
write party.yaml <<YAML
node_id: $node
data_dir: /var/lib/hutong
listen: 0.0.0.0:9380
tls: {cert_file: /etc/hutong/api.pem, key_file: /etc/hutong/api.pem}
partners:
  listen: 0.0.0.0:9382
  url: https://$host:$port
  transport_url: https://$host:$((port + 1))
  tls: {cert_file: /etc/hutong/partners.pem, key_file: /etc/hutong/partners.pem}
transport: {listen: 0.0.0.0:9390, partner_listen: 0.0.0.0:9391, advertise: transport:9390}
ops: {listen: 0.0.0.0:9385}
temporal:
  address: temporal:7233
  tls: {ca_file: /etc/hutong/services.crt}
  encryption: {keys_dir: /etc/hutong/keys}
database: {ca_file: /etc/hutong/services.crt}
storage: {ca_file: /etc/hutong/services.crt}
runner: {docker: {enabled: false}} # the service runner turns it on
YAML
chown 0:65530 "$dir/party" && chmod 0750 "$dir/party" && chmod 0755 "$dir/services"

cp "$here"/{compose.yaml,one-machine.yaml,postgres.sh,temporal-schema.sh,temporal.yaml} "$dir/"
chmod 0755 "$dir" "$dir/postgres.sh" "$dir/temporal-schema.sh" && chmod 0644 "$dir"/*.yaml
[ -e "$dir/.env" ] || cat >"$dir/.env" <<ENV
COMPOSE_PROJECT_NAME=hutong-$(tr '[:upper:]' '[:lower:]' <<<"$node")
COMPOSE_FILE=compose.yaml${partner:+:one-machine.yaml}
${partner:+PARTNER_HOST=$partner
}DIR=$dir
PARTNERS_PORT=$port
PARTNERS_TRANSPORT_PORT=$((port + 1))
API_PORT=$((port + 2))
TRANSPORT_PORT=$((port + 3))
POSTGRES_PORT=$((port + 4))
TEMPORAL_PORT=$((port + 5))
S3_PORT=$((port + 6))
GATE_PORT=$((port + 7))
RUNNER_OPS_PORT=$((port + 8))
POSTGRES_PASSWORD=$postgres
TEMPORAL_PASSWORD=$temporal
S3_PASSWORD=$s3
HUTONG_IMAGE=$image
ENV
echo "$dir has the files of $node. Start it: cd $dir && docker compose up -d"
