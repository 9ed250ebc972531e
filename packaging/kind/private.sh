#!/usr/bin/env bash
# Runs a command beside a Docker engine of its own, where there is none or the one there is shall not be touched. Both are in network,
# mount and process namespaces of their own, whose end is the end of everything in them; DOCKER_HOST is set, `docker` is in PATH.
#   packaging/kind/private.sh [--isolated] [--volatile] [--directory DIR] COMMAND [ARGUMENT…]
# --isolated: containers get no network. --volatile: what the engine stores is in memory. --directory: the engine's, its socket is DIR/sock; without it one that is removed afterwards.
# Needs root, the programs of packaging/docker-engine.sh, runc, containerd and (unless isolated) iptables.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
die() { echo "private: $*" >&2; exit 1; }

# covered DIRECTORY: what is written there from now on is not written to the machine.
covered() {
    local upper=$directory/covered$1
    mkdir -p "$upper"/{new,work}
    mount -t overlay -o "lowerdir=$1,upperdir=$upper/new,workdir=$upper/work" overlay "$1"
}

# Inside the namespaces, as pid 1 of them.
inside() { # DIR DOCKERD ISOLATED VOLATILE COMMAND…
    local directory=$1 dockerd=$2 isolated=$3 volatile=$4 network=()
    shift 4
    mkdir -p "$directory/root"
    [ -z "$volatile" ] || mount -t tmpfs tmpfs "$directory/root"
    covered /etc # for the engine's key
    if [ ! -d /lib/modules ]; then
        covered "$(realpath /lib)"
        mkdir /lib/modules # kind's nodes have it mounted, and Docker would make it
    fi
    mount -t tmpfs tmpfs /run
    ip link set lo up
    [ -z "$isolated" ] || network=(--bridge=none --iptables=false --ip6tables=false)
    "$dockerd" --host "unix://$directory/sock" --data-root "$directory/root" --exec-root "$directory/exec" --pidfile "$directory/pid" \
        --cgroup-parent "/$(basename "$directory")" --add-runtime "cut=$HERE/runc.py" --default-runtime cut \
        --userland-proxy-path "$(dirname "$dockerd")/docker-proxy" "${network[@]}" >"$directory/log" 2>&1 &
    local engine=$!
    until docker version >/dev/null 2>&1; do
        kill -0 "$engine" 2>/dev/null || die "the engine ended: $(tail -3 "$directory/log")"
        sleep 0.1
    done
    "$@"
}

[ "${1:-}" != --inside ] || { shift; inside "$@"; exit; }

directory='' isolated='' volatile=''
while [ $# -gt 0 ]; do
    case $1 in
    --isolated) isolated=1 ;;
    --volatile) volatile=1 ;;
    --directory) directory=${2:?--directory: expected a directory}; shift ;;
    -*) die "unknown option $1; known: --isolated, --volatile, --directory DIR" ;;
    *) break ;;
    esac
    shift
done
[ $# -gt 0 ] || die "expected a command"
[ "$(id -u)" = 0 ] || die "needs root"
dockerd=$("$HERE/../docker-engine.sh")
export PATH="$PATH:/usr/sbin:/sbin:$(dirname "$(dirname "$dockerd")")/bin"

made=''
[ -n "$directory" ] || made=$(mktemp -d "${TMPDIR:-/tmp}/docker-XXXXXX")
directory=$(realpath "${directory:-$made}")
export DOCKER_HOST="unix://$directory/sock"

# The namespaces die with this shell, however it dies; its control groups have to be removed.
clean() {
    trap '' INT TERM
    [ -z "${child:-}" ] || { kill -KILL "$child" 2>/dev/null; wait "$child" 2>/dev/null; } || :
    local group
    for group in /sys/fs/cgroup/*/"$(basename "$directory")" /sys/fs/cgroup/"$(basename "$directory")"; do
        [ ! -d "$group" ] || for _ in $(seq 50); do
            find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || :
            [ -d "$group" ] || break
            sleep 0.1
        done
    done
    [ -z "$made" ] || rm -rf "$made"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
setpriv --pdeathsig KILL unshare --mount --net --pid --ipc --fork --kill-child --mount-proc \
    "${BASH_SOURCE[0]}" --inside "$directory" "$dockerd" "$isolated" "$volatile" "$@" <&0 &
child=$!
status=0
wait "$child" || status=$?
child=''
exit "$status"
