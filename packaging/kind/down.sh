#!/usr/bin/env bash
# Takes the cluster of up.sh away.
set -euo pipefail
command -v kind >/dev/null 2>&1 || { echo "kind is not in PATH: nothing of it can run here" >&2; exit 1; }
[ "${1:-}" != --name ] || shift
exec kind delete cluster --name "${1:-appliance}"
