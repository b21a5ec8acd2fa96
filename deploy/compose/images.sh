#!/usr/bin/env bash
# images.sh DIR VARIABLES builds images for compose.yaml where the public ones can't be pulled, on Debian, as root:
# PostgreSQL from this machine's packages postgresql and busybox-static, Temporal and the S3 server from their Go modules,
# at the versions of go.mod and of the tests. DIR keeps the programs. It writes the variables for .env into the file VARIABLES.
# The images are for trials: production takes those of their makers, or services that exist.
set -euo pipefail
[ $# = 2 ] || { sed -n '2,6s/^# //p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
mkdir -p "$1/bin"
cache=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CGO_ENABLED=0
busybox=$(command -v busybox) || { echo "install the package busybox-static" >&2; exit 1; }
postgres=$(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 2>/dev/null | sort -V | tail -n 1)
[ -n "$postgres" ] || { echo "install the package postgresql" >&2; exit 1; }
temporal=$(cd "$root" && go list -m -f '{{.Version}}' go.temporal.io/server)
# With the versions of go.mod, so that packages which Hutong's build has compiled are used again.
cp "$root/go.mod" "$root/go.sum" "$work/"
for program in server:temporal-server tools/sql:temporal-sql-tool; do
  name=${program#*:}
  [ "$(cat "$cache/$name.version" 2>/dev/null)" = "$temporal" ] && continue
  echo "building $name $temporal"
  (cd "$root" && GOFLAGS='' go build -modfile "$work/go.mod" -mod mod -ldflags '-s -w' -o "$cache/bin/$name" \
    "go.temporal.io/server/cmd/${program%:*}")
  echo "$temporal" >"$cache/$name.version"
done
"$root/test/testenv/s3/install.sh" "$cache"

base() { # base NAME makes a folder with a shell
  mkdir -p "$work/$1"/{bin,etc,tmp,usr/local/bin}
  chmod 1777 "$work/$1/tmp"
  cp "$busybox" "$work/$1/bin/busybox"
  for name in sh cat ls mkdir rm nc; do ln -s busybox "$work/$1/bin/$name"; done
  printf 'root:x:0:0::/:/bin/sh\npostgres:x:999:999::/var/lib/postgresql:/bin/sh\ntemporal:x:1000:1000::/:/bin/sh\n' >"$work/$1/etc/passwd"
  printf 'root:x:0:\npostgres:x:999:\ntemporal:x:1000:\n' >"$work/$1/etc/group"
}
image() { # image NAME TAG VARIABLE builds the folder with the Dockerfile's other lines on standard input
  { echo "FROM scratch"; echo "COPY . /"; cat; } >"$work/$1.Dockerfile"
  DOCKER_BUILDKIT=0 docker build -q -t "hutong-try/$1:$2" -f "$work/$1.Dockerfile" "$work/$1" 2>"$work/build" >/dev/null || { cat "$work/build" >&2; exit 1; }
  echo "$3=hutong-try/$1:$2" >>"$work/variables"
}

base temporal
cp "$cache/bin/temporal-server" "$work/temporal/usr/local/bin/"
image temporal "${temporal#v}" TEMPORAL_IMAGE <<'D'
ENV PATH=/usr/local/bin:/bin
USER temporal
CMD ["temporal-server", "start"]
D
base temporal-tools
cp "$cache/bin/temporal-sql-tool" "$work/temporal-tools/usr/local/bin/"
image temporal-tools "${temporal#v}" TEMPORAL_TOOLS_IMAGE <<'D'
ENV PATH=/usr/local/bin:/bin
USER temporal
D
base s3
cp "$cache/bin/versitygw" "$work/s3/usr/local/bin/"
image s3 "$(cat "$cache/versitygw.version")" S3_IMAGE <<'D'
ENTRYPOINT ["/usr/local/bin/versitygw"]
D

# PostgreSQL: its files and the libraries that they load.
base postgres
to=$work/postgres
mkdir -p "$to/var/lib/postgresql/data" "$to/docker-entrypoint-initdb.d"
tar -C / -cf - "${postgres#/}" "usr/share/postgresql/${postgres##*/}" usr/share/zoneinfo usr/lib/locale/C.utf8 |
  tar -C "$to" -xf -
rm -rf "$to$postgres/lib"/llvmjit* "$to$postgres/lib/bitcode" # large, and not needed
# ldd fails for the files that are no programs.
{ find "$to$postgres" -type f \( -perm -u+x -o -name '*.so' \) -exec ldd {} + 2>/dev/null || true; } |
  awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\/lib.*ld-/ { print $1 }' | sort -u |
  while read -r library; do mkdir -p "$to$(dirname "$library")"; cp -L "$library" "$to$library"; done
install -m 0755 "$here/postgres-entrypoint.sh" "$to/usr/local/bin/entrypoint.sh"
image postgres "${postgres##*/}" POSTGRES_IMAGE <<D
COPY --chown=999:999 var/lib/postgresql /var/lib/postgresql
ENV PATH=$postgres/bin:/usr/local/bin:/bin LANG=C.UTF-8
USER postgres
VOLUME /var/lib/postgresql/data
ENTRYPOINT ["/usr/local/bin/entrypoint.sh"]
D
cp "$work/variables" "$2"
cat "$2"
