#!/usr/bin/env bash
# Installs what the tests use besides Go: Docker, PostgreSQL, a C compiler for the race detector, Python for FATE-Flow, and
# ip for network namespaces. It needs a Debian machine, and root. It starts no service.
set -euo pipefail

packages=()
command -v dockerd >/dev/null || packages+=(docker.io)
command -v iptables >/dev/null || packages+=(iptables)
command -v ip >/dev/null || packages+=(iproute2)
command -v git >/dev/null || packages+=(git)
command -v gcc >/dev/null || packages+=(gcc libc6-dev)
command -v python3.11 >/dev/null || packages+=(python3.11)
python3.11 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3.11-venv)
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || packages+=(postgresql)
if ! command -v docker >/dev/null || [ "${#packages[@]}" -gt 0 ]; then
  apt-get update -qq
  # Newer Debian releases package the docker command separately.
  if ! command -v docker >/dev/null && apt-cache show docker-cli >/dev/null 2>&1; then packages+=(docker-cli); fi
  echo "installing ${packages[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
