#!/usr/bin/env bash
# install.sh DIR installs FATE and this provider in the virtual environment DIR, unless they are installed. It needs
# Debian 12 with Python 3.11's venv module, and a package index. As root it installs python3-torch, the only part
# that is Debian's: PyPI's torch is some 3 GB larger.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:?"usage: install.sh DIR"}
python=${PYTHON:-/usr/bin/python3}

mkdir -p "$(dirname "$dir")"
exec 9>"$dir.lock"
flock 9

digest=$(cd "$here" && cat install.sh requirements.txt | sha256sum)
package=$(cd "$here" && cat pyproject.toml hutong_fate/*.py | sha256sum)

check_version() {
  local version
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  if [ "$version" != 3.11 ]; then
    echo "$python is Python $version; FATE 2.2.0 needs 3.11, for which Debian 12 has torch; name it in PYTHON" >&2
    exit 1
  fi
}

if command -v "$python" >/dev/null; then check_version; fi
if ! "$python" -c 'import torch, ensurepip, venv' 2>/dev/null; then
  if [ "$(id -u)" != 0 ]; then
    echo "FATE needs torch: as root, run apt-get install --no-install-recommends python3-torch python3-venv" >&2
    exit 1
  fi
  echo "installing Debian's python3-torch"
  apt-get -o DPkg::Lock::Timeout=300 update -qq
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends python3-torch python3-venv >/dev/null
  check_version
  if ! "$python" -c 'import torch, ensurepip, venv'; then
    echo "$python does not find the torch and venv of Debian's packages; leave PYTHON unset, or install them for it" >&2
    exit 1
  fi
fi

pip() { "$dir/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }
if [ "$(cat "$dir/fate.digest" 2>/dev/null)" != "$digest" ]; then
  echo "installing FATE with $("$python" --version)"
  rm -rf "$dir"
  "$python" -m venv --system-site-packages "$dir"
  # Wheels only, so that no compiler is needed. Each task starts Python again: its modules are compiled here.
  pip install --quiet --compile --only-binary :all: --no-deps --requirement "$here/requirements.txt"
  echo "$digest" >"$dir/fate.digest"
fi
if [ "$(cat "$dir/package.digest" 2>/dev/null)" != "$package" ]; then
  copy=$(mktemp -d)
  trap 'rm -rf "$copy"' EXIT
  cp -r "$here/pyproject.toml" "$here/hutong_fate" "$copy"
  pip install --quiet --compile --no-deps --force-reinstall "$copy"
  echo "$package" >"$dir/package.digest"
fi
