#!/usr/bin/env bash
# Prints the path of an image archive for code-interpreter sandboxes: Debian with Python, a user named `user` and sudo,
# made by debootstrap, without Docker. It stands for e2bdev/code-interpreter where that cannot be pulled; the runtime that
# the sidecar places serves envd and run_code in it. Needs root and a Debian mirror once; cached by the recipe's checksum.
#   packaging/images/code-interpreter.sh [NAME:TAG]      (default docker.io/e2bdev/code-interpreter:latest)
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NAME=${1:-docker.io/e2bdev/code-interpreter:latest}
PACKAGES=python3,sudo,procps,ca-certificates,curl
SUITE=bookworm
MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}

checksum=$({ cat "${BASH_SOURCE[0]}" "$HERE/archive.py"; echo "$NAME"; } | sha256sum | cut -c1-16)
cache=${APPLIANCE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/appliance}/images
archive=$cache/code-interpreter-$checksum.tar
mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9
if [ ! -e "$archive" ]; then
    command -v debootstrap >/dev/null || { echo "debootstrap is needed (Debian: apt-get install debootstrap)" >&2; exit 1; }
    echo "making the code-interpreter image (a minute or two, once) …" >&2
    work=$(mktemp -d "$cache/.build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    debootstrap --variant=minbase --include=$PACKAGES $SUITE "$work/root" "$MIRROR" >"$work/log" 2>&1 || { tail -20 "$work/log" >&2; exit 1; }
    chroot "$work/root" useradd --create-home --shell /bin/bash user
    echo 'user ALL=(ALL) NOPASSWD: ALL' >"$work/root/etc/sudoers.d/user"
    chmod 440 "$work/root/etc/sudoers.d/user"
    rm -rf "$work/root"/{var/cache/apt,var/lib/apt/lists,usr/share/doc,usr/share/man,usr/share/locale,var/log}/*
    tar -C "$work/root" --numeric-owner --sort=name --exclude=./proc/* --exclude=./sys/* --exclude=./dev/* -cf "$work/layer.tar" .
    python3 "$HERE/archive.py" "$NAME" "$work/layer.tar" "$archive" \
        '{"Cmd": ["sh", "-c", "trap exit TERM; sleep infinity & wait"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]}'
fi
echo "$archive"
