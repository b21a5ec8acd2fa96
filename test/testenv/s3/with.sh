#!/usr/bin/env bash
# with.sh DIR COMMAND... runs a command with an S3 server, whose URL is in HUTONG_TEST_S3. It installs the server in DIR if
# necessary. The server keeps its objects in a temporary folder, and stops when the command ends.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?"usage: with.sh DIR COMMAND..."}
shift
"$here/install.sh" "$dir"
data=$(mktemp -d)
port=$((30000 + RANDOM % 2000))
ROOT_ACCESS_KEY=hutong ROOT_SECRET_KEY=hutong-secret "$dir/bin/versitygw" --port "127.0.0.1:$port" posix "$data" >"$data.log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; rm -rf "$data" "$data.log"' EXIT
for _ in $(seq 200); do
  (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
  kill -0 "$server" 2>/dev/null || { cat "$data.log"; exit 1; }
  sleep 0.1
done
HUTONG_TEST_S3="s3://127.0.0.1:$port?username=hutong&password=hutong-secret&bucket=hutong" "$@"
