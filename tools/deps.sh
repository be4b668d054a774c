#!/bin/sh
# Installs what is missing of packages.txt (as root, or with sudo).
cd "$(dirname "$0")/.." || exit 1
missing=
for p in $(grep -v '^#' packages.txt); do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
echo "installing:$missing"
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null || {
    echo "could not install:$missing" >&2
    exit 1
}
