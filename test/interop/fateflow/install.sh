#!/usr/bin/env bash
# install.sh DIR installs FATE-Flow 2.2.0 and an S3 server in DIR, unless they are installed. It needs Python 3.11 with
# venv (PYTHON names another command for it), Go, and a package index.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?"usage: install.sh DIR"}
fate_flow=2.2.0

mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9

"$here/../../testenv/s3/install.sh" "$dir"

digest=$(cd "$here" && { echo "$fate_flow"; cat install.sh requirements.txt; find utils -name '*.py' | sort | xargs cat; } | sha256sum)
[ "$(cat "$dir/fateflow.digest" 2>/dev/null)" = "$digest" ] && exit 0

python=
for candidate in ${PYTHON:-} python3.11 python3; do
  if [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = 3.11 ]; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "found no Python 3.11, which FATE-Flow $fate_flow needs: install it (Debian 12: apt-get install python3.11 python3.11-venv)," >&2
  echo "or name it in PYTHON." >&2
  exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  echo "$python can't create virtual environments: install its venv module (Debian 12: apt-get install python3.11-venv)." >&2
  exit 1
fi

echo "installing FATE-Flow $fate_flow with $("$python" --version)"
rm -rf "$dir/fateflow.digest" "$dir/venv" "$dir/fate_flow"
"$python" -m venv "$dir/venv"
pip() { "$dir/venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
pip install --quiet --requirement "$here/requirements.txt"
# FATE-Flow loads adapters only from a package in a folder named fate_flow/python.
pip install --quiet --no-deps --target "$dir/fate_flow/python" "fate_flow==$fate_flow"
cp -r "$here/utils" "$dir/fate_flow/python/fate_flow/adapter/bfia/utils"
"$dir/venv/bin/python" -m compileall -q "$dir/fate_flow/python/fate_flow/adapter/bfia/utils"
echo "$digest" >"$dir/fateflow.digest"
