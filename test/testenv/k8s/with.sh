#!/usr/bin/env bash
# with.sh DIR COMMAND... runs a command with a Kubernetes cluster of two nodes, node-1 and node-2: the control plane, the
# scheduler, the controllers, the proxy of services, and containerd and a kubelet for each node. DIR holds the programs
# that install.sh builds. It needs root on Debian, and installs containerd and the network plugins if they are missing.
# The command finds in
#
#   HUTONG_TEST_KUBELET  a folder with kubeconfig, share, and for each node pids/NODE and ctr-NODE, which knows its images
#   HUTONG_TEST_ADDRESS  the address of node-1, which this machine's processes and the pods reach
#   HUTONG_TEST_REGISTRY the address of an empty registry, from which the nodes pull
#   HUTONG_TEST_POLICIES 1 if the cluster enforces NetworkPolicies between pods; empty if the kernel can't queue packets
#   TMPDIR               the folder share, which every container sees as /share
#
# While the folder has a file NODE.off, the node's kubelet does not start again after it was killed.
# HUTONG_KEEP_LOGS names a folder for the logs of all parts if the command fails.
#
# Any user of the machine reaches the kubelets while it runs, so it is for machines of tests only.
# At its end it removes all that it made on the machine: processes, mounts, cgroups, the bridge, rules of the firewall.
set -euo pipefail
cache=${1:?"usage: with.sh DIR COMMAND..."}
shift
here=$(cd "$(dirname "$0")" && pwd)
cache=$(mkdir -p "$cache" && cd "$cache" && pwd)
[ "$(id -u)" = 0 ] || { echo "with.sh needs root, for containers and networks"; exit 1; }

packages=()
command -v containerd >/dev/null || packages+=(containerd)
command -v runc >/dev/null || packages+=(runc)
command -v ip >/dev/null || packages+=(iproute2)
command -v iptables >/dev/null || packages+=(iptables)
command -v nft >/dev/null || packages+=(nftables)
command -v conntrack >/dev/null || packages+=(conntrack)
command -v mount >/dev/null || packages+=(mount)
command -v ps >/dev/null || packages+=(procps)
[ -x /usr/lib/cni/bridge ] || packages+=(containernetworking-plugins)
if [ "${#packages[@]}" -gt 0 ]; then
  apt-get -o DPkg::Lock::Timeout=300 update -qq
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
"$here/install.sh" "$cache" node
node=$cache/bin/k8s-node

# One cluster at a time: the bridge, the address and the cgroup exist once.
exec 9>/run/lock/hutong-k8s.lock
flock 9
# The cluster's proxy and network plugin would take over those of a machine that is a node of a cluster.
if nft list table ip kube-proxy >/dev/null 2>&1 || [ -n "$(ip -4 route show 10.98.0.0/16)" ]; then
  echo "with.sh: this machine has a table kube-proxy or a route to 10.98.0.0/16: run it on a machine that is no Kubernetes node" >&2
  exit 1
fi
bridge=hk8s address=10.98.0.1 pods=10.98.0.0/16 group=hutong-k8s
dir=$(mktemp -d /tmp/hk8s.XXXXXX)
made=() # what kubelets and plugins make in fixed places
for at in /var/lib/kubelet /var/lib/cni /var/log/containers /usr/libexec/kubernetes; do [ -e "$at" ] || made+=("$at"); done
chmod 755 "$dir"
mkdir "$dir"/{share,pids,logs}
chmod 1777 "$dir/share"
accept=(FORWARD -i "$bridge" -o "$bridge" -m comment --comment hutong-k8s -j ACCEPT)

# New connections between pods, to the queue of what enforces network policies. The nodes' own are not forwarded: policies don't
# hold for them.
queue=98
judge=(FORWARD -i "$bridge" -o "$bridge" -m conntrack --ctstate NEW -m comment --comment hutong-k8s -j NFQUEUE --queue-num "$queue")

# await COMMAND... waits up to a minute until a command succeeds.
await() {
  for _ in $(seq 600); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.1
  done
  echo "the test cluster: timed out: $*"
  return 1
}

groups() { find /sys/fs/cgroup -depth -type d -path "*/$group*" 2>/dev/null; }

clean() {
  status=$?
  trap - EXIT
  set +e
  disown -a # bash reports no killed process
  touch "$dir"/node-{1,2}.off
  [ $status = 0 ] || [ -z "${HUTONG_KEEP_LOGS:-}" ] || cp -r "$dir"/*.log "$HUTONG_KEEP_LOGS"
  for name in keeper-1 keeper-2 node-1 node-2 scheduler controllers proxy policies registry; do
    [ -e "$dir/pids/$name" ] && kill -9 "$(cat "$dir/pids/$name")" 2>/dev/null
  done
  exec 8>&- # ends the API server
  # Containers: all processes in cgroups of pods, then their shims.
  for _ in $(seq 50); do
    found=
    for procs in $(groups | sed 's|$|/cgroup.procs|'); do
      for pid in $(cat "$procs" 2>/dev/null); do
        found=1
        kill -9 "$pid" 2>/dev/null
      done
    done
    [ -z "$found" ] && break
    sleep 0.1
  done
  for ctr in "$dir"/ctr-*; do
    for task in $("$ctr" tasks ls -q 2>/dev/null); do "$ctr" tasks rm -f "$task" >/dev/null 2>&1; done
    for container in $("$ctr" containers ls -q 2>/dev/null); do "$ctr" containers rm "$container" >/dev/null 2>&1; done
  done
  for name in containerd-1 containerd-2; do
    [ -e "$dir/pids/$name" ] && kill "$(cat "$dir/pids/$name")" 2>/dev/null
  done
  for pid in $(ps -eo pid=,args= | awk -v socket="$dir/containerd-" 'index($0, "containerd-shim") && index($0, socket) { print $1 }'); do
    kill -9 "$pid" 2>/dev/null
  done
  for pid in $(cat "$dir"/pids/*); do
    for _ in $(seq 100); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
  done
  for _ in 1 2 3; do
    awk -v dir="$dir/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r at; do umount -l "$at"; done
  done
  # Docker's plugins have such namespaces too: these have an address of the cluster's pods.
  for at in /run/netns/cni-*; do
    if nsenter --net="$at" ip -o -4 addr show 2>/dev/null | grep -q ' 10\.98\.'; then
      while umount "$at" 2>/dev/null; do :; done
      rm -f "$at"
    fi
  done
  iptables -D "${accept[@]}" 2>/dev/null
  iptables -t mangle -D "${judge[@]}" 2>/dev/null
  nft delete table inet hutong-k8s-policies 2>/dev/null
  ip link delete "$bridge" 2>/dev/null
  nft delete table ip kube-proxy 2>/dev/null
  nft delete table ip6 kube-proxy 2>/dev/null
  groups | while read -r g; do rmdir "$g" 2>/dev/null; done
  find /var/log/containers -lname "$dir/*" -delete 2>/dev/null
  rm -rf --one-file-system "$dir" "${made[@]}"
  exit $status
}
trap clean EXIT
trap 'exit 130' INT TERM

# start NAME COMMAND... starts a part whose output is in NAME.log.
start() {
  local name=$1
  shift
  "$@" <"${input:-/dev/null}" >>"$dir/$name.log" 2>&1 9>&- 8>&- &
  echo $! >"$dir/pids/$name"
}

# The network: a bridge with the nodes' addresses. Docker drops what it does not know.
ip link add "$bridge" type bridge
ip addr add "$address/16" dev "$bridge"
ip addr add 10.98.0.2/16 dev "$bridge"
ip link set "$bridge" up
iptables -I "${accept[@]}"

# The API server.
mkfifo "$dir/open"
exec 8<>"$dir/open"
input=$dir/open start api "$cache/bin/k8s-cluster" "$dir" "$address"
export KUBECONFIG=$dir/kubeconfig

# containerd, apart from Docker's. Every container sees the folder share.
ctr oci spec | sed 's|"mounts": \[|&{"destination": "/share", "type": "bind", "source": "'"$dir"'/share", "options": ["rbind", "rw"]},|' \
  >"$dir/base.json"
(cd "$here/../../.." && CGO_ENABLED=0 go build -tags slim -ldflags '-s -w' -o "$dir/image" ./test/testenv/k8s/image &&
  CGO_ENABLED=0 go build -ldflags '-s -w' -o "$dir/pause" ./test/testenv/k8s/pause)
await test -e "$dir/ready" || { tail -20 "$dir/api.log"; exit 1; }
: >"$dir/resolv.conf"

# The pods are in a cgroup of their own, that of each node below it.
make_group() {
  if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mkdir -p "/sys/fs/cgroup/$1"
    return
  fi
  for controller in cpu cpuacct cpuset memory pids blkio devices freezer systemd hugetlb; do
    if [ -d "/sys/fs/cgroup/$controller" ]; then mkdir -p "/sys/fs/cgroup/$controller/$1"; fi
  done
  # A new cpuset has neither processors nor memory.
  for file in cpuset.cpus cpuset.mems; do cat "/sys/fs/cgroup/cpuset/$file" >"/sys/fs/cgroup/cpuset/$1/$file"; done
}
make_group "$group"

keep_kubelet() { # NODE
  while [ -d "$dir" ]; do
    if [ ! -e "$dir/$1.off" ]; then
      "$node" kubelet --config="$dir/$1.yaml" --kubeconfig="$KUBECONFIG" --root-dir="$dir/$1" --cert-dir="$dir/pki-$1" \
        --hostname-override="$1" --node-ip="10.98.0.${1#node-}" >>"$dir/$1.log" 2>&1 &
      echo $! >"$dir/pids/$1"
      wait $! || true
    fi
    sleep 0.2
  done
}

# start_node NUMBER starts a node: containerd, apart from Docker's and the other node's, and a kubelet.
start_node() {
  local name=node-$1 socket=$dir/containerd-$1.sock
  mkdir "$dir/cni-$1"
  cat >"$dir/cni-$1/10-pods.conflist" <<END
{"cniVersion": "0.4.0", "name": "pods-$1", "plugins": [
  {"type": "bridge", "bridge": "$bridge", "hairpinMode": true, "ipMasq": false, "ipam": {"type": "host-local",
    "dataDir": "$dir/ipam-$1", "ranges": [[{"subnet": "$pods", "rangeStart": "10.98.$1.1", "rangeEnd": "10.98.$1.250",
    "gateway": "$address"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}, "snat": false}]}
END
  cat >"$dir/containerd-$1.toml" <<END
version = 2
root = "$dir/containerd-$1"
state = "$dir/containerd-$1-state"
[grpc]
  address = "$socket"
[plugins."io.containerd.internal.v1.opt"]
  path = "$dir/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/hutong/pause:1"
  restrict_oom_score_adj = true # for machines whose root lacks CAP_SYS_RESOURCE
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni-$1"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    base_runtime_spec = "$dir/base.json"
END
  start "containerd-$1" containerd --config "$dir/containerd-$1.toml"
  printf '#!/bin/sh\nexec ctr --address %s --namespace k8s.io "$@"\n' "$socket" >"$dir/ctr-$name"
  chmod 755 "$dir/ctr-$name"
  await "$dir/ctr-$name" version
  "$dir/image" hutong/pause:1 "$dir/pause" | "$dir/ctr-$name" images import - >/dev/null
  make_group "$group/$name"
  cat >"$dir/$name.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 10.98.0.$1
healthzPort: 0
readOnlyPort: 0
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix://$socket
cgroupDriver: cgroupfs
cgroupRoot: /$group/$name
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
resolvConf: $dir/resolv.conf
clusterDNS: ["10.96.0.10"]
volumePluginDir: $dir/plugins
podLogsDir: $dir/logs/$name
evictionHard: {}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 1s
nodeStatusReportFrequency: 2s
nodeLeaseDurationSeconds: 4
maxPods: 100
END
  keep_kubelet "$name" 2>>"$dir/$name.log" 9>&- 8>&- &
  echo $! >"$dir/pids/keeper-$1"
}
start_node 1
start_node 2
port=$((32000 + RANDOM % 500))
start scheduler "$node" scheduler --kubeconfig="$KUBECONFIG" --bind-address=127.0.0.1 --secure-port=0 --leader-elect=false
start controllers "$node" controllers --kubeconfig="$KUBECONFIG" --bind-address=127.0.0.1 --secure-port=0 --leader-elect=false \
  --use-service-account-credentials=false --service-account-private-key-file="$dir/accounts.key" --root-ca-file="$dir/apiserver.crt" \
  --node-monitor-period=1s --node-monitor-grace-period=10s --terminated-pod-gc-threshold=1000
start proxy "$node" proxy --kubeconfig="$KUBECONFIG" --proxy-mode=nftables --cluster-cidr="$pods" --hostname-override=node-1 \
  --healthz-bind-address="127.0.0.1:$((port + 1))" --metrics-bind-address="127.0.0.1:$((port + 2))" --conntrack-max-per-core=0
policies=
if iptables -t mangle -A "${judge[@]}" 2>/dev/null; then
  policies=1
  start policies "$node" policies --kubeconfig="$KUBECONFIG" --queue="$queue"
  await grep -qs "^ *$queue " /proc/net/netfilter/nfnetlink_queue
else
  echo "left out: the enforcement of network policies, since this kernel has no NFQUEUE"
fi
registry=127.0.0.1:$port
start registry "$node" registry "$registry"

HUTONG_TEST_KUBELET=$dir HUTONG_TEST_ADDRESS=$address HUTONG_TEST_REGISTRY=$registry HUTONG_TEST_POLICIES=$policies \
  TMPDIR=$dir/share "$@" 8>&- 9>&-
