#!/usr/bin/env bash
# Installs Jupyter kernels on this box, so that sandboxes (which see its /usr) run code in more languages than Python:
#   packaging/kernels.sh                     javascript (and TypeScript), bash, r, java
#   packaging/kernels.sh javascript bash     only these
# As root into /usr/local, R and a JDK from Debian; else into ~/.local, and R and a JDK must be there. Again is harmless.
# Exit status 1 when a language could not be installed; the others are.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/packaging/lib.sh"

PREFIX=/usr/local
[ "$(id -u)" = 0 ] || PREFIX=$HOME/.local
LIB=$PREFIX/lib/appliance-kernels
SPECS=$PREFIX/share/jupyter/kernels
PYTHON=$(find_python)

# package NAME DIR: one locked package, without dependencies, as DIR.
package() {
    local fresh
    fresh=$(mktemp -d "$LIB/.new.XXXXXX")
    awk -v name="$1" 'index($0, name "==") == 1 {on = 1} on {print} on && !/\\$/ {on = 0}' \
        "$ROOT/packaging/requirements-kernels.lock" >"$fresh.txt"
    if ! "$PYTHON" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile \
        --require-hashes --target "$fresh" -r "$fresh.txt"; then
        rm -rf "$fresh" "$fresh.txt"
        say "  $1 could not be installed; is a package index (or PIP_FIND_LINKS with the wheels) reachable?"
        return 1
    fi
    chmod 755 "$fresh"
    rm -rf "$2" "$fresh.txt"
    mv "$fresh" "$2"
}

# debian PACKAGE…: with apt-get, where this is root on such a system.
debian() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        say "  needs $* (Debian's names), which only root can install"
        return 1
    fi
    say "  installing system packages: $*"
    DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null 2>&1 || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null || {
        say "  apt-get could not install $*"
        return 1
    }
}

# spec NAME JSON: the kernel specification.
spec() {
    mkdir -p "$SPECS/$1"
    printf '%s\n' "$2" >"$SPECS/$1/kernel.json"
}

install_javascript() {
    package deno "$LIB/deno" || return 1
    "$LIB/deno/bin/deno" --version >/dev/null || { say "  deno does not run here"; return 1; }
    spec javascript '{"argv": ["'"$LIB"'/deno/bin/deno", "jupyter", "--kernel", "--conn", "{connection_file}"],
 "display_name": "JavaScript and TypeScript (Deno)", "language": "typescript", "interrupt_mode": "message",
 "env": {"NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"}}'
}

install_bash() {
    package filetype "$LIB/filetype" && package bash-kernel "$LIB/bash" || return 1
    install -m 644 "$ROOT/packaging/bash_kernel_main.py" "$LIB/bash/"
    # "python3" is replaced by the Python that has Jupyter, in a sandbox /opt/venv's.
    spec bash '{"argv": ["python3", "-m", "bash_kernel_main", "-f", "{connection_file}"], "display_name": "Bash",
 "language": "bash", "env": {"PS1": "$", "PYTHONPATH": "'"$LIB/bash:$LIB/filetype"'"}}'
}

install_r() {
    for spec in "$SPECS/ir" /usr/share/jupyter/kernels/ir; do [ ! -e "$spec/kernel.json" ] || return 0; done
    debian r-cran-irkernel
}

install_java() {
    if ! java --list-modules 2>/dev/null | grep -q '^jdk.jshell@'; then
        debian default-jdk-headless || return 1
    fi
    package jjava "$LIB/java" || return 1
    spec java '{"argv": ["java", "-Xshare:auto", "-XX:+UseSerialGC", "-Xmx16m", "-jar", "'"$LIB"'/java/share/jupyter/kernels/java/jjava-launcher.jar",
  "'"$LIB"'/java/share/jupyter/kernels/java/jjava.jar", "{connection_file}"],
 "display_name": "Java", "language": "java", "interrupt_mode": "message",
 "env": {"JJAVA_JVM_OPTS": "-Xshare:auto -XX:+UseSerialGC -XX:TieredStopAtLevel=1"}}'
}

umask 022
mkdir -p "$LIB" "$SPECS"
[ $# -gt 0 ] || set -- javascript bash r java
failed=()
for language in "$@"; do
    declare -F "install_$language" >/dev/null || die "$language: unknown; there are javascript (with TypeScript), bash, r and java"
done
for language in "$@"; do
    say "$language …"
    "install_$language" || failed+=("$language")
done
say "Kernels are in $SPECS and /usr/share/jupyter/kernels; boxes that are running see them after their next start."
[ ${#failed[@]} -eq 0 ] || die "not installed: ${failed[*]}"
