#!/usr/bin/env bash
# Coverage-guided fuzzing (atheris) of every parser that strangers can reach: request and response heads, chunked and
# multipart bodies, Connect's framing and both codecs, paths, ranges, list filters, names in DNS.
#   packaging/fuzz.sh [TARGET|all] [SECONDS]     default: all, 60 seconds each; targets are the functions of tests/fuzz/targets.py
# Findings are kept in tests/fuzz/corpus/TARGET/ and replayed by pytest from then on. Needs Python 3.11 (atheris' wheels).
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/packaging/lib.sh"
export PYTHON=${PYTHON:-python3.11}
locked_venv "$ROOT/.venv-fuzz" "$ROOT/packaging/requirements-fuzz.lock"
export PYTHONPATH="$ROOT:$ROOT/tests/fuzz"
exec "$ROOT/.venv-fuzz/bin/python" "$ROOT/tests/fuzz/fuzz.py" "$@"
