#!/usr/bin/env bash
# Takes the cluster of up.sh away.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$ROOT/packaging/lib.sh"
command -v docker >/dev/null 2>&1 || die "there is no docker here: nothing of kind can run"
need_kind
[ "${1:-}" != --name ] || shift
exec kind delete cluster --name "${1:-appliance}"
