#!/usr/bin/env bash
# Takes the flight deck's pictures anew: starts a box, drives real claims with the E2B SDK, and writes what the deck
# shows as SVG to docs/screens (or the directory given). Needs root, as the box does; about three minutes.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/packaging/lib.sh"

[ "$(id -u)" = 0 ] || die "the pictures are taken of a real box, which needs root"
need_programs "${BOX_PROGRAMS[@]}"
locked_venv "$ROOT/.venv-test" "$ROOT/packaging/requirements-test.lock"
export PATH="$ROOT/.venv-test/bin:$PATH" PYTHONPATH="$ROOT:$ROOT/tests/support"
exec python "$ROOT/packaging/screenshots.py" "${1:-$ROOT/docs/screens}"
