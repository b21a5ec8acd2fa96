#!/usr/bin/env bash
# install.sh DIR installs FATE's client, fate_client 2.2.0, in DIR/fate_client, unless it is installed. It needs
# Python 3.9 to 3.11 with venv (PYTHON names another command for it) and a package index.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?"usage: install.sh DIR"}
fate_client=2.2.0

mkdir -p "$dir"
exec 9>"$dir/fate_client.lock"
flock 9

digest=$(cd "$here" && { echo "$fate_client"; cat install.sh requirements.txt; } | sha256sum)
[ "$(cat "$dir/fate_client.digest" 2>/dev/null)" = "$digest" ] && exit 0

python=
for candidate in ${PYTHON:-} python3.11 python3.10 python3.9 python3; do
  if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 11))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "found no Python 3.9 to 3.11 with venv, which fate_client $fate_client needs: install it" >&2
  echo "(Debian 12: apt-get install python3.11 python3.11-venv), or name it in PYTHON." >&2
  exit 1
fi

echo "installing fate_client $fate_client with $("$python" --version)"
rm -rf "$dir/fate_client.digest" "$dir/fate_client"
"$python" -m venv "$dir/fate_client"
pip() { "$dir/fate_client/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
pip install --quiet --requirement "$here/requirements.txt"
pip install --quiet --no-deps "fate_client==$fate_client"
echo "$digest" >"$dir/fate_client.digest"
