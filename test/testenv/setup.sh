#!/usr/bin/env bash
# Installs what the tests use besides Go: Docker, PostgreSQL, a C compiler for the race detector, Python for FATE-Flow,
# curl, openssl, ip for network namespaces, systemd's checks of units, Prometheus, nginx, and Node.js and Chromium
# for the console. It needs a Debian machine, and root. It starts no service.
set -euo pipefail

packages=()
need() { command -v "$1" >/dev/null || packages+=("${@:2}"); }
need dockerd docker.io
need iptables iptables
need ip iproute2
need git git
need curl curl ca-certificates
need openssl openssl
need gcc gcc libc6-dev
need python3 python3
need promtool prometheus
need nginx nginx
need systemd-analyze systemd
need node nodejs
need npm npm
need chromium chromium fonts-dejavu-core
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || packages+=(postgresql)
python3.11 -c 'import ensurepip, venv' 2>/dev/null && python311=yes || python311=
if [ "${#packages[@]}" -gt 0 ] || [ -z "$python311" ] || ! command -v docker >/dev/null; then
  apt-get -o DPkg::Lock::Timeout=300 update -qq
  available() { apt-cache show "$1" >/dev/null 2>&1; }
  # Newer Debian releases package the docker command separately, and have no Python 3.11.
  if available docker-cli; then need docker docker-cli; fi
  if [ -z "$python311" ] && available python3.11-venv; then packages+=(python3.11 python3.11-venv) python311=yes; fi
fi
if [ "${#packages[@]}" -gt 0 ]; then
  echo "installing ${packages[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
if [ -z "$python311" ]; then
  echo "Python 3.11 is missing: this Debian release has no package of it. Only 'make interop', 'make fate-client' and"
  echo "'make fate' need it; install Python 3.11 with its venv module, and name it in PYTHON. 'make fate' needs its torch too."
fi
