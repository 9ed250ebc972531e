#!/usr/bin/env bash
# Every check there is: lint, types, import contracts, unit, contract, end to end on a real one-box cloud with the real
# SDKs. Installs what it needs. Arguments after the options go to pytest.
#   packaging/test.sh            everything that runs here within 15 minutes on a new machine
#   packaging/test.sh --all      the same, the contract tests and claims at scale against a real etcd and kube-apiserver, Helm,
#                                Debian roots; the Kubernetes programs and Helm are built first (about 20 minutes, once;
#                                KUBEBUILDER_ASSETS with the programs saves most of that)
#   packaging/test.sh --node     all of that, and the roles as pods on a real node (5 minutes more)
#   packaging/test.sh --compat   all of --all, and every pinned client release against a box (3 minutes more)
#   packaging/test.sh --fast     lint, types, contracts and unit tests only
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/packaging/lib.sh"
cd "$ROOT"

scope=normal node='' compat=''
while [ $# -gt 0 ]; do
    case $1 in
    --all) scope=all ;;
    --node) scope=all node=1 ;;
    --compat) scope=all compat=1 ;;
    --fast) scope=fast ;;
    *) break ;;
    esac
    shift
done

[ "$(id -u)" = 0 ] || [ "$scope" = fast ] || die "the end-to-end tests start sandboxes and need root (or use --fast)"
[ "$scope" = fast ] || need_programs "${BOX_PROGRAMS[@]}" "go:golang-go:builds the kubectl the tests drive" "unshare:util-linux:gives tests namespaces of their own" \
    "node:nodejs:runs the JavaScript SDKs and the CLI" "npm:npm:installs them" "curl:curl:is what sandboxes of the tests ask with" \
    "skopeo:skopeo:reads the built image" "containerd:containerd:imports it" "ctr:containerd:asks for that" \
    "debootstrap:debootstrap:makes the systems that the runtime is put into" \
    "busybox:busybox-static:is an image of one program" "tmux:tmux:is the terminal of the flight deck's tests" "ps:procps:lists processes" \
    "chromium:chromium:opens the flight deck as a browser does" "losetup:mount:lists loop devices"
locked_venv "$ROOT/.venv-test" "$ROOT/packaging/requirements-test.lock"
export PATH="$ROOT/.venv-test/bin:$PATH" PYTHONPATH="$ROOT" VIRTUAL_ENV="$ROOT/.venv-test"

step() { say; say "== $*"; }

step "lint"
ruff check .
ruff format --check .
step "types"
mypy
step "import contracts"
lint-imports --no-cache

if [ "$scope" = fast ]; then
    step "unit tests"
    exec python -m pytest tests/unit "$@"
fi
step "kubectl"
APPLIANCE_TEST_KUBECTL=$("$ROOT/packaging/kubectl/build.sh")
APPLIANCE_TEST_OLD_SDK="$ROOT/.venv-sdk-2.8"
locked_venv "$APPLIANCE_TEST_OLD_SDK" "$ROOT/packaging/requirements-sdk-2.8.lock"
step "JavaScript SDKs and CLI"
APPLIANCE_TEST_JS="$ROOT/.npm-test"
locked_npm "$APPLIANCE_TEST_JS" "$ROOT/tests/e2e/js"
APPLIANCE_TEST_VITE="$ROOT/.npm-vite"
locked_npm "$APPLIANCE_TEST_VITE" "$ROOT/tests/e2e/vite"
export APPLIANCE_TEST_JS APPLIANCE_TEST_VITE
step "the single file"
APPLIANCE_TEST_PYZ="$ROOT/dist/appliance.pyz"
packaging/build.sh -o "$APPLIANCE_TEST_PYZ" --check
export APPLIANCE_TEST_KUBECTL APPLIANCE_TEST_OLD_SDK APPLIANCE_TEST_PYZ
step "its container image, and what takes it"
APPLIANCE_TEST_IMAGE="$ROOT/dist/appliance.tar"
"$(find_python)" "$APPLIANCE_TEST_PYZ" image build -o "$APPLIANCE_TEST_IMAGE"
"$(find_python)" "$ROOT/packaging/pyz/measure.py" --image "$APPLIANCE_TEST_IMAGE" | tee "$ROOT/dist/startup-image.txt"
APPLIANCE_TEST_CRANE=$("$ROOT/packaging/go-tools.sh" crane)
APPLIANCE_TEST_DOCKERD=$("$ROOT/packaging/docker-engine.sh")
export APPLIANCE_TEST_IMAGE APPLIANCE_TEST_CRANE APPLIANCE_TEST_DOCKERD
step "kernels of other languages"
"$ROOT/packaging/kernels.sh"
if [ "$scope" = all ]; then
    step "Helm"
    APPLIANCE_TEST_HELM=$("$ROOT/packaging/go-tools.sh" helm)
    export APPLIANCE_TEST_HELM
    step "etcd, kube-apiserver and what else runs beside a real API server"
    KUBEBUILDER_ASSETS=$("$ROOT/packaging/kube-assets.sh" etcd kube-apiserver kube-controller-manager kwok)
    export KUBEBUILDER_ASSETS
    if [ -n "$node" ]; then
        step "kubelet and the images of a real node"
        need_programs "${NODE_PROGRAMS[@]}"
        KUBEBUILDER_ASSETS=$(unset KUBEBUILDER_ASSETS; "$ROOT/packaging/kube-assets.sh" "${NODE_ASSETS[@]}" kwok)
        "$ROOT/packaging/images/code-interpreter.sh" >/dev/null
    fi
    if [ -n "$compat" ]; then
        step "client releases of the last twelve months"
        APPLIANCE_TEST_COMPAT=$("$ROOT/packaging/compat.sh" --install)
        export APPLIANCE_TEST_COMPAT
    fi
    step "unit, contract and end-to-end tests, on the embedded cluster and on a real API server"
    exec python -m pytest -m "(${node:+realnode or }not realnode) and (${compat:+compat or }not compat)" "$@"
fi
step "unit, contract and end-to-end tests"
exec python -m pytest -m "not realkube and not realnode and not compat and not helm and not debian" "$@"
