#!/usr/bin/env bash
# Makes the lock files anew from pyproject.toml and requirements-*.in: exact versions with hashes, for Python 3.11+.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
compile() { uv pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-emit-find-links "$@"; }
compile --extra science pyproject.toml -o packaging/requirements.lock
compile --group build -o packaging/requirements-build.lock
compile --extra science --group test -c packaging/requirements.lock -c packaging/requirements-build.lock pyproject.toml -o packaging/requirements-test.lock
compile packaging/requirements-sdk-2.8.in -o packaging/requirements-sdk-2.8.lock
compile --extra file -c packaging/requirements.lock pyproject.toml --no-emit-package debugpy --no-emit-package jedi --no-emit-package parso -o packaging/requirements-pyz.lock
compile --no-deps packaging/requirements-kernels.in -o packaging/requirements-kernels.lock
compile -c packaging/requirements-test.lock packaging/requirements-fuzz.in -o packaging/requirements-fuzz.lock
