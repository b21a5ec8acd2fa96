#!/usr/bin/env bash
# older.sh COMMIT FILE: builds hutong of another commit of this repository, without Temporal's server, as FILE.
set -euo pipefail
from=${1-} file=$(realpath -m "${2:?the file to write}")
if ! commit=$(git rev-parse --verify --quiet "$from^{commit}"); then
  echo "make upgrade: FROM='$from' is no tag or commit of this repository; name the version to upgrade from" >&2
  exit 2
fi
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
git archive "$commit" | tar -x -C "$tree"
echo "building hutong of $from ($commit)"
cd "$tree"
CGO_ENABLED=0 go build -tags slim -ldflags "-s -w -X main.commit=${commit:0:12}" -o "$file" ./cmd/hutong
