#!/usr/bin/env bash
# install.sh [PROGRAM] installs Hutong on a machine with systemd, as root: the program, the units, the user and the
# folders. Without an argument it takes the program of this machine's architecture from the archive that it is in.
# It overwrites no configuration, starts nothing, and may be run again with a newer program. It needs no network.
# DESTDIR=/some/root installs below a folder, for packages and images.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=${DESTDIR:-}
case "$(uname -m)" in
  x86_64) arch=amd64 ;;
  aarch64) arch=arm64 ;;
  *) echo "no program is built for $(uname -m)" >&2; exit 1 ;;
esac
program=${1:-$here/../../bin/$arch/hutong}
[ -f "$program" ] || { echo "there is no program $program: give its path" >&2; exit 1; }
[ -n "$root" ] || [ "$(id -u)" = 0 ] || { echo "run this as root, or set DESTDIR" >&2; exit 1; }

# A running program can't be overwritten, but replaced.
install -d "$root/usr/bin" "$root/usr/lib/systemd/system" "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d"
install -m 0755 "$program" "$root/usr/bin/.hutong.new"
mv -f "$root/usr/bin/.hutong.new" "$root/usr/bin/hutong"
install -m 0644 "$here"/hutong*.service "$here/hutong.target" "$root/usr/lib/systemd/system/"
install -m 0644 "$here/sysusers.conf" "$root/usr/lib/sysusers.d/hutong.conf"
install -m 0644 "$here/tmpfiles.conf" "$root/usr/lib/tmpfiles.d/hutong.conf"
if [ -d "$here/../../docs" ]; then
  install -d "$root/usr/share/doc/hutong"
  cp -R "$here/../../docs/." "$root/usr/share/doc/hutong/"
fi
if [ -n "$root" ]; then
  echo "installed below $root"
  exit 0
fi
systemd-sysusers hutong.conf
systemd-tmpfiles --create hutong.conf
example=$here/../config/party.example.yaml
[ -e /etc/hutong/party.example.yaml ] && cmp -s "$example" /etc/hutong/party.example.yaml ||
  install -m 0640 -g hutong "$example" /etc/hutong/party.example.yaml
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
echo "installed $(/usr/bin/hutong --version)"
[ -e /etc/hutong/party.yaml ] || echo "Next: write /etc/hutong/party.yaml and the secrets (docs/operators/install.md)."
