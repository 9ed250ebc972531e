#!/usr/bin/env bash
# The compatibility table: every pinned client release (tests/compat/releases) uses every feature of one box started here.
#   packaging/compat.sh              writes docs/compatibility.md and the summary in README.md
#   packaging/compat.sh --check      writes nothing; fails when a cell that was ✓ is so no longer (what the tests run)
#   packaging/compat.sh --install    only installs the releases and prints where (packaging/test.sh does so)
#   packaging/compat.sh NAME…        only these releases, as python-2.6.3 or js-2.51.0; prints, writes nothing
# The releases are installed with their hashes below ${APPLIANCE_COMPAT_CACHE:-~/.cache/appliance/compat}, once.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/packaging/lib.sh"
CACHE=${APPLIANCE_COMPAT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/appliance/compat}

case ${1:-} in -h | --help)
    sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit
    ;;
esac
mkdir -p "$CACHE"
(
    flock 9 # two checkouts may share the cache
    for release in "$ROOT"/tests/compat/releases/*/; do
        name=$(basename "$release")
        case $name in
        python-*) locked_venv "$CACHE/$name" "$release/requirements.lock" ;;
        js-*) locked_npm "$CACHE/$name" "$release" ;;
        esac
    done
) 9>"$CACHE/.lock"
if [ "${1:-}" = --install ]; then
    printf '%s\n' "$CACHE"
    exit
fi
[ "$(id -u)" = 0 ] || die "the box that the releases are run against needs root"
need_programs "${BOX_PROGRAMS[@]}" "unshare:util-linux:gives the clients a resolver of their own" "node:nodejs:runs the JavaScript SDKs and the CLI" \
    "openssl:openssl:is a server that speaks TLS inside a sandbox"
locked_venv "$ROOT/.venv-test" "$ROOT/packaging/requirements-test.lock"
export PYTHONPATH="$ROOT:$ROOT/tests/support:$ROOT/tests/compat" APPLIANCE_TEST_COMPAT="$CACHE"
exec "$ROOT/.venv-test/bin/python" "$ROOT/tests/compat/run.py" "$@"
