#!/usr/bin/env bash
# install.sh DIR installs the S3 server of the tests, at a fixed version, as DIR/bin/versitygw.
set -euo pipefail
dir=${1:?"usage: install.sh DIR"}
version=v1.8.0
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
exec 9>"$dir/versitygw.lock"
flock 9
[ "$(cat "$dir/versitygw.version" 2>/dev/null)" = "$version" ] && exit 0
echo "installing versitygw $version"
GOBIN="$dir/bin" GOFLAGS= CGO_ENABLED=0 go install "github.com/versity/versitygw/cmd/versitygw@$version"
echo "$version" >"$dir/versitygw.version"
