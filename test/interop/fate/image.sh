#!/usr/bin/env bash
# image.sh DIR TAG makes a Docker image of the FATE that providers/fate/install.sh has installed in DIR, with what it
# needs of this Debian machine. It needs no image registry; elsewhere, build providers/fate/Dockerfile instead.
set -euo pipefail
dir=${1:?"usage: image.sh DIR TAG"}
tag=${2:?"usage: image.sh DIR TAG"}

digest=$(cat "$dir/fate.digest" "$dir/package.digest" "$0" | sha256sum | cut -d ' ' -f 1)
if [ "$(docker image inspect --format '{{ index .Config.Labels "digest" }}' "$tag" 2>/dev/null)" = "$digest" ]; then
  exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "making the image $tag"
apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
  --no-enhances python3-torch python3 ca-certificates | grep '^[a-z0-9]' | sort -u >"$work/names"
# Virtual packages among the names are no packages.
{ xargs dpkg-query -W -f '${db:Status-Abbrev} ${binary:Package}\n' <"$work/names" 2>/dev/null || true; } |
  awk '$1 == "ii" { print $2 }' >"$work/packages"
{
  xargs dpkg-query -L <"$work/packages" | grep -v '^/usr/share/\(doc\|man\|locale\|info\)/' |
    while read -r path; do if [ -L "$path" ] || [ -f "$path" ]; then echo "$path"; fi; done
  # What no package lists: alternatives such as that of BLAS, and the linker's cache.
  find /usr/lib /usr/bin -lname '/etc/alternatives/*'
  find /etc/alternatives /etc/ld.so.conf.d -type l -o -type f
  printf '%s\n' /bin /sbin /lib /lib64 # links into /usr on Debian 12
  printf '%s\n' /etc/ld.so.cache /etc/ld.so.conf /etc/passwd /etc/group /etc/ssl/certs/ca-certificates.crt
} | sed 's#^/\(bin\|sbin\|lib\|lib64\)/#/usr/\1/#' | sort -u >"$work/files"
mkdir "$work/tmp"
chmod 1777 "$work/tmp"
{
  tar -c --no-recursion -P -T "$work/files" -f "$work/root.tar"
  tar -r -C "$work" -f "$work/root.tar" tmp
  tar -r -C "$dir" --transform 's|^\./|opt/fate/|;s|^\.$|opt/fate|' -f "$work/root.tar" .
}
docker import --change "LABEL digest=$digest" --change 'ENV PYTHONDONTWRITEBYTECODE=1' --change 'ENV PATH=/usr/bin:/bin' \
  --change 'ENTRYPOINT ["/opt/fate/bin/python", "-m", "hutong_fate"]' "$work/root.tar" "$tag" >/dev/null
