#!/usr/bin/env bash
# A real single-node Kubernetes 1.36 on this machine, in namespaces of its own, with the product installed in it as a
# user would: etcd, kube-apiserver, controller manager, scheduler, containerd, kubelet, kube-proxy. As root, on Linux.
#   packaging/cluster.sh up            prints exports for kubectl and the SDKs; a pool of two is warmed (--bare: only Kubernetes)
#   packaging/cluster.sh kubectl …     kubectl as its administrator
#   packaging/cluster.sh env           the SDKs' exports again
#   packaging/cluster.sh down          ends everything; nothing is left behind
# The first `up` builds the Kubernetes programs (13 minutes, once) and a sandbox image (two minutes, once).
# APPLIANCE_CLUSTER_DIR names its directory (default /tmp/appliance-cluster).
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/packaging/lib.sh"
cd "$ROOT"

if [ "${1:-}" = up ]; then
    [ "$(id -u)" = 0 ] || die "a node needs root"
    need_programs "${NODE_PROGRAMS[@]}"
    locked_venv "$ROOT/.venv-test" "$ROOT/packaging/requirements-test.lock"
    [ -e dist/appliance.pyz ] || packaging/build.sh -o dist/appliance.pyz >&2
fi
KUBEBUILDER_ASSETS=$(packaging/kube-assets.sh "${NODE_ASSETS[@]}" kubectl)
export KUBEBUILDER_ASSETS PYTHONPATH="$ROOT:$ROOT/tests/support" PYTHONDONTWRITEBYTECODE=1
exec "$ROOT/.venv-test/bin/python" -m realnode "$@"
