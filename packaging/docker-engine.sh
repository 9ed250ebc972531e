#!/usr/bin/env bash
# Prints the path of a dockerd for tests: the machine's own, else one unpacked, not installed, from Debian's package, so that no
# service starts and no firewall rule is made. Needs root and apt-get; cached outside the checkout.
set -euo pipefail
if command -v dockerd >/dev/null 2>&1; then command -v dockerd; exit; fi
directory=${APPLIANCE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/appliance}/docker-engine
mkdir -p "$directory"
exec 9>"$directory/.lock"
flock 9
if [ ! -x "$directory/usr/sbin/dockerd" ]; then
    command -v apt-get >/dev/null || { echo "docker-engine: needs apt-get (Debian's package docker.io)" >&2; exit 1; }
    fresh=$(mktemp -d "$directory/.new.XXXXXX")
    (cd "$fresh" && apt-get download -qq docker.io >/dev/null 2>&1 && dpkg -x docker.io_*.deb .) ||
        { rm -rf "$fresh"; echo "docker-engine: the package docker.io could not be fetched" >&2; exit 1; }
    cp -r "$fresh/usr" "$directory/"
    rm -rf "$fresh"
fi
echo "$directory/usr/sbin/dockerd"
