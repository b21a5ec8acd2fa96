#!/usr/bin/env bash
# Builds the Kubernetes of the tests: install.sh DIR [node] writes its control plane to DIR/bin/k8s-cluster, and with node
# also the kubelet, the scheduler, the controllers and the proxy to DIR/bin/k8s-node. The first build of each takes
# some minutes on two cores.
set -euo pipefail
dir=${1:?"usage: install.sh DIR [node]"}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$dir/bin"
dir=$(cd "$dir" && pwd)
exec 9>"$dir/k8s-cluster.lock"
flock 9
build() { # NAME PACKAGE
  version=$(cat "$here"/cluster/go.* "$here/cluster/$2"/*.go | sha256sum)
  [ "$(cat "$dir/$1.version" 2>/dev/null)" = "$version" ] && return
  echo "building $1 for the tests"
  (cd "$here/cluster" && GOFLAGS=-p=2 GOWORK=off CGO_ENABLED=0 go build -ldflags '-s -w' -o "$dir/bin/$1" "./$2")
  echo "$version" >"$dir/$1.version"
}
build k8s-cluster .
if [ "${2:-}" = node ]; then build k8s-node node; fi
