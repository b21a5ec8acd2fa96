#!/usr/bin/env bash
# Builds the Kubernetes control plane of the tests: install.sh DIR writes it to DIR/bin/k8s-cluster. The first build takes
# about three minutes on two cores.
set -euo pipefail
dir=${1:?"usage: install.sh DIR"}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$dir/bin"
dir=$(cd "$dir" && pwd)
exec 9>"$dir/k8s-cluster.lock"
flock 9
version=$(cat "$here"/cluster/* | sha256sum)
[ "$(cat "$dir/k8s-cluster.version" 2>/dev/null)" = "$version" ] && exit 0
echo "building the Kubernetes control plane of the tests"
(cd "$here/cluster" && GOFLAGS= GOWORK=off CGO_ENABLED=0 go build -ldflags '-s -w' -o "$dir/bin/k8s-cluster" .)
echo "$version" >"$dir/k8s-cluster.version"
