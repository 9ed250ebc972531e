#!/usr/bin/env bash
# Every check there is: lint, types, import contracts, unit, contract, end to end on a real one-box cloud with the real
# SDKs. Installs what it needs. Arguments after the options go to pytest.
#   packaging/test.sh            everything that runs here within 15 minutes on a new machine
#   packaging/test.sh --all      the same, the contract tests and claims at scale against a real etcd and kube-apiserver, the roles as
#                                pods on a real node, every pinned client release against a box, Helm, Debian roots; the Kubernetes
#                                programs and Helm are built first (about 25 minutes, once; KUBEBUILDER_ASSETS with the programs saves
#                                most of that)
#   packaging/test.sh --fast     lint, types, contracts and unit tests only
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$ROOT/packaging/lib.sh"
cd "$ROOT"

scope=normal
while [ $# -gt 0 ]; do
    case $1 in
    --all) scope=all ;;
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
    "chromium:chromium:opens the flight deck as a browser does" "losetup:mount:lists loop devices" "openssl:openssl:is a server that speaks TLS inside a sandbox"
locked_venv "$ROOT/.venv-test" "$ROOT/packaging/requirements-test.lock"
export PATH="$ROOT/.venv-test/bin:$PATH" PYTHONPATH="$ROOT" VIRTUAL_ENV="$ROOT/.venv-test"

step() { say; say "== $*"; }

# Without arguments for pytest a second pytest runs beside this script: first the unit tests, which need nothing but Python, beside lint
# and builds; then, once starts have been measured on an idle machine, the node and the client releases, which wait more than they work.
beside='' logs='' split=''
[ $# -gt 0 ] || [ "$scope" = fast ] || split=1
stop_beside() {
    if [ -n "$beside" ]; then
        kill -INT -- "-$beside" 2>/dev/null || :
        wait "$beside" || :
    fi
    [ -z "$logs" ] || rm -rf "$logs"
}
trap stop_beside EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start_beside NAME ARG…: start pytest ARG… in the background, in a process group of its own (so that it takes SIGINT and cleans up).
start_beside() {
    set -m
    python -m pytest "${@:2}" >"$logs/$1" 2>&1 </dev/null &
    set +m
    beside=$!
}

# finish_beside NAME: wait for it and print what it printed; its status is pytest's.
finish_beside() {
    local status=0
    wait "$beside" || status=$?
    beside=''
    step "$1, which ran beside the above"
    cat "$logs/$1"
    return "$status"
}

# run_tests MARKS BESIDE [ARG…]: every test of MARKS, with those of BESIDE (none if empty) beside them.
run_tests() {
    local status=0
    if [ -n "$beside" ]; then finish_beside "unit tests" || status=1; fi
    step "starts of the file and of its image"
    "$(find_python)" "$ROOT/packaging/pyz/measure.py" "$APPLIANCE_TEST_PYZ" | tee "$ROOT/dist/startup.txt"
    "$(find_python)" "$ROOT/packaging/pyz/measure.py" --image "$APPLIANCE_TEST_IMAGE" | tee "$ROOT/dist/startup-image.txt"
    if [ -z "$split" ]; then
        step "unit, contract and end-to-end tests"
        python -m pytest -m "${2:+($2) or }$1" "${@:3}"
        return
    fi
    [ -z "$2" ] || start_beside "real node, client releases" tests/cluster tests/compat -m "$2"
    step "contract and end-to-end tests"
    python -m pytest --ignore=tests/unit -m "$1" || status=1
    if [ -n "$beside" ]; then finish_beside "real node, client releases" || status=1; fi
    [ "$status" = 0 ] && return
    grep -hE '^(FAILED|ERROR) ' "$logs"/* || :
    die "tests failed, see above"
}
if [ -n "$split" ]; then
    logs=$(mktemp -d)
    start_beside "unit tests" tests/unit
fi

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
packaging/build.sh -o "$APPLIANCE_TEST_PYZ" --no-table --check
export APPLIANCE_TEST_KUBECTL APPLIANCE_TEST_OLD_SDK APPLIANCE_TEST_PYZ
step "its container image, and what takes it"
APPLIANCE_TEST_IMAGE="$ROOT/dist/appliance.tar"
"$(find_python)" "$APPLIANCE_TEST_PYZ" image build -o "$APPLIANCE_TEST_IMAGE"
APPLIANCE_TEST_CRANE=$("$ROOT/packaging/go-tools.sh" crane)
APPLIANCE_TEST_DOCKERD=$("$ROOT/packaging/docker-engine.sh")
APPLIANCE_TEST_KIND=$("$ROOT/packaging/go-tools.sh" kind)
export APPLIANCE_TEST_IMAGE APPLIANCE_TEST_CRANE APPLIANCE_TEST_DOCKERD APPLIANCE_TEST_KIND
step "kernels of other languages"
"$ROOT/packaging/kernels.sh"
if [ "$scope" = all ]; then
    step "Helm"
    APPLIANCE_TEST_HELM=$("$ROOT/packaging/go-tools.sh" helm)
    export APPLIANCE_TEST_HELM
    step "the programs and images of a real node"
    need_programs "${NODE_PROGRAMS[@]}"
    KUBEBUILDER_ASSETS=$("$ROOT/packaging/kube-assets.sh" "${NODE_ASSETS[@]}" kwok)
    export KUBEBUILDER_ASSETS
    "$ROOT/packaging/images/code-interpreter.sh" >/dev/null
    APPLIANCE_TEST_KIND_NODE=$("$ROOT/packaging/kind/node-image.sh")
    export APPLIANCE_TEST_KIND_NODE
    step "client releases of the last twelve months"
    APPLIANCE_TEST_COMPAT=$("$ROOT/packaging/compat.sh" --install)
    export APPLIANCE_TEST_COMPAT
    run_tests "not realnode and not compat" "realnode or compat" "$@"
else
    run_tests "not realkube and not realnode and not compat and not helm and not debian" "" "$@"
fi
