#!/usr/bin/env bash
# components.sh DIR makes DIR/own, a virtual environment in which FATE-Flow runs FATE's own components. install.sh must have
# installed FATE-Flow in DIR, and providers/fate/install.sh FATE in DIR/fate. It downloads nothing.
set -euo pipefail
dir=$(cd "${1:?"usage: components.sh DIR"}" && pwd)
python=${PYTHON:-/usr/bin/python3}

exec 9>"$dir/own.lock"
flock 9
digest=$(cat "$dir/fateflow.digest" "$dir/fate/fate.digest" "$0" | sha256sum)
[ "$(cat "$dir/own.digest" 2>/dev/null)" = "$digest" ] && exit 0
rm -rf "$dir/own.digest" "$dir/own"
"$python" -m venv --without-pip --system-site-packages "$dir/own"
packages=lib/python3.11/site-packages
# Of what both need, FATE's versions are found first. Debian's Python 3.11.2 pickles enumerations as calls of getattr, which
# FATE refuses to read (providers/fate/hutong_fate/worker.py).
cat >"$dir/own/$packages/own.pth" <<END
$dir/fate/$packages
$dir/venv/$packages
import enum; enum.Enum.__reduce_ex__ = lambda self, protocol: (self.__class__, (self._value_,))
END
"$dir/own/bin/python" -c 'import fate.components, flask, torch'
echo "$digest" >"$dir/own.digest"
