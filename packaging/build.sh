#!/usr/bin/env bash
# Builds dist/appliance.pyz: one file that runs on any Linux machine of this architecture with Python 3.11 or newer, without
# network. Same checkout and lock files, same bytes (--check builds twice and compares). Needs a package index (or PIP_FIND_LINKS with the wheels) and `strip`.
#   packaging/build.sh [-o FILE] [--no-table] [--check]
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/packaging/lib.sh"
need_programs "strip:binutils:halves the compiled libraries"
locked_venv "$ROOT/.venv-build" "$ROOT/packaging/requirements-build.lock"
PYTHONPATH="$ROOT/packaging" exec "$ROOT/.venv-build/bin/python" -m pyz.build "$@"
