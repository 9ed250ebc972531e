#!/usr/bin/env bash
# A Kubernetes in Docker with this program on it: makes a kind cluster, loads the image, installs, makes the seed's pool and runs a
# cell through the unmodified SDK. Needs Docker; where that is not, it says so at once (packaging/kind/private.sh starts one).
#   packaging/kind/up.sh [--name NAME] [--file PYZ] [--image IMAGE] [--sandbox ARCHIVE]
#   packaging/kind/down.sh [--name NAME]     takes the cluster away
# --file: this appliance.pyz instead of one built now. Without internet, --image: the node image, a name that Docker has or an archive
# (packaging/kind/node-image.sh makes one), and --sandbox: an archive of the image that the seed's pool names (packaging/images/).
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$ROOT/packaging/lib.sh"
NAME=appliance
SEED=$ROOT/tests/e2e/seed/sandboxset.yaml
file='' image='' sandbox=''

while [ $# -gt 0 ]; do
    case $1 in
    --name) NAME=${2:?--name: expected the name of a cluster}; shift ;;
    --file) file=${2:?--file: expected an appliance.pyz}; shift ;;
    --image) image=${2:?--image: expected the name of an image or an archive}; shift ;;
    --sandbox) sandbox=${2:?--sandbox: expected an image archive}; shift ;;
    *) die "unknown argument $1; known: --name NAME, --file PYZ, --image IMAGE, --sandbox ARCHIVE" ;;
    esac
    shift
done

command -v docker >/dev/null 2>&1 ||
    die "kind runs nodes as Docker containers, and there is no docker here. Without Docker a box does: packaging/run.sh"
docker info >/dev/null 2>&1 ||
    die "there is a docker client here, but no engine answers it ($(docker info 2>&1 | tail -1)). Without one a box does: packaging/run.sh"
for given in "$file" "$sandbox"; do
    [ -z "$given" ] || [ -f "$given" ] || die "there is no file $given"
done
need_kind
command -v kubectl >/dev/null 2>&1 || PATH=$PATH:$(dirname "$("$ROOT/packaging/kubectl/build.sh")")

work=$(mktemp -d)
trap 'rm -rf "$work"; [ -z "${forward:-}" ] || kill "$forward" 2>/dev/null || true' EXIT
export KUBECONFIG=$work/kubeconfig

say "== the file and its image"
if [ -z "$file" ]; then
    file=$ROOT/dist/appliance.pyz
    "$ROOT/packaging/build.sh" --no-table -o "$file"
fi
appliance=("$(find_python)" "$file")
"${appliance[@]}" image build -o "$work/appliance.tar"

say "== cluster $NAME"
if ! kind get clusters 2>/dev/null | grep -qx "$NAME"; then
    if [ -f "$image" ]; then
        loaded=$(docker load --quiet --input "$image")
        image=${loaded#Loaded image: }
    fi
    kind create cluster --name "$NAME" --config "$ROOT/packaging/kind/cluster.yaml" --wait 120s ${image:+--image "$image"}
fi
kind export kubeconfig --name "$NAME" --kubeconfig "$KUBECONFIG"
for archive in "$work/appliance.tar" ${sandbox:+"$sandbox"}; do kind load image-archive "$archive" --name "$NAME"; done

say "== install"
"${appliance[@]}" install --apply --wait 180 --kubeconfig "$KUBECONFIG"
"${appliance[@]}" doctor --cluster-only --kubeconfig "$KUBECONFIG" || say "(see above what the doctor found)"

say "== the seed's pool, of two"
lowered='s/replicas: 100/replicas: 2/; s/cpu: 1$/cpu: 100m/; s/memory: 1Gi/memory: 256Mi/'
[ -z "$sandbox" ] || lowered="$lowered; s/^\( *\)image: e2bdev.*/&\n\1imagePullPolicy: IfNotPresent/" # it is there, nowhere else
sed "$lowered" "$SEED" | kubectl apply -f -
for _ in $(seq 300); do
    ready=$(kubectl get sandboxset code-interpreter -o 'jsonpath={.status.availableReplicas}')
    [ "${ready:-0}" -ge 1 ] && break
    sleep 1
done
[ "${ready:-0}" -ge 1 ] || { kubectl describe sandboxes | tail -40; die "no sandbox became available within 5 minutes"; }

say "== a cell"
kubectl -n sandbox-system port-forward service/sandbox-manager :80 >"$work/forward" &
forward=$!
until grep -qs 'Forwarding from' "$work/forward"; do kill -0 "$forward" || die "port-forward ended"; sleep 0.2; done
port=$(sed -n 's/.*127.0.0.1:\([0-9]*\).*/\1/p' "$work/forward" | head -1)
key=$(kubectl -n sandbox-system get secret appliance-api-key -o 'jsonpath={.data.api-key}' | base64 -d)
locked_venv "$ROOT/.venv-test" "$ROOT/packaging/requirements-test.lock"
E2B_API_URL=http://127.0.0.1:$port E2B_SANDBOX_URL=http://127.0.0.1:$port E2B_API_KEY=$key "$ROOT/.venv-test/bin/python" - <<'PY'
from e2b_code_interpreter import Sandbox

with Sandbox.create(template="code-interpreter", timeout=120) as sandbox:
    answer = sandbox.run_code("6 * 7").text
    print(f"6 * 7 = {answer}")
    assert answer == "42"
PY
say "ready: kind export kubeconfig --name $NAME points kubectl at it"
