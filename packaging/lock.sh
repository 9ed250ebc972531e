#!/usr/bin/env bash
# Makes the lock files anew from pyproject.toml and requirements-sdk-2.8.in: exact versions with hashes, for Python 3.11+.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
compile() { uv pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-emit-find-links "$@"; }
compile --extra science pyproject.toml -o packaging/requirements.lock
compile --extra science --group test -c packaging/requirements.lock pyproject.toml -o packaging/requirements-test.lock
compile packaging/requirements-sdk-2.8.in -o packaging/requirements-sdk-2.8.lock
