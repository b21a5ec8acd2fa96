#!/usr/bin/env bash
# Builds the OpenID provider of the tests: install.sh DIR writes it to DIR/bin/dex. The first build takes about three minutes
# on two cores.
set -euo pipefail
dir=${1:?"usage: install.sh DIR"}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$dir/bin"
dir=$(cd "$dir" && pwd)
exec 9>"$dir/dex.lock"
flock 9
version=$(cat "$here"/server/go.* | sha256sum)
[ "$(cat "$dir/dex.version" 2>/dev/null)" = "$version" ] && exit 0
echo "building the OpenID provider of the tests"
(cd "$here/server" && GOFLAGS= GOWORK=off CGO_ENABLED=0 go build -ldflags '-s -w' -o "$dir/bin/dex" github.com/dexidp/dex/cmd/dex)
echo "$version" >"$dir/dex.version"
