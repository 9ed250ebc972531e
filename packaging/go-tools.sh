#!/usr/bin/env bash
# Prints the path of each command that is named, built from the Go module proxy by its pinned recipe in go-tools/:
#   packaging/go-tools.sh helm     checks and renders packaging/helm (about 5 minutes on two cores, once)
#   packaging/go-tools.sh crane    reads image archives as registries' tools do (half a minute, once)
#   packaging/go-tools.sh kind     brings Kubernetes up in Docker (ten seconds, once)
#   packaging/go-tools.sh kubeadm coredns     are of kind's node image (packaging/kind/node-image.sh; a few minutes, once)
# Cached outside the checkout under the checksum of the recipe; of two callers at once one builds and the other waits.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
KNOWN="helm, crane, kind, kubeadm, coredns"
CACHE=${APPLIANCE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/appliance}

die() { echo "go-tools: $*" >&2; exit 1; }

package_of() { # NAME → its Go package
    case $1 in
    helm) echo helm.sh/helm/v4/cmd/helm ;;
    crane) echo github.com/google/go-containerregistry/cmd/crane ;;
    kind) echo sigs.k8s.io/kind ;;
    kubeadm) echo k8s.io/kubernetes/cmd/kubeadm ;;
    coredns) echo appliance.test/coredns ;;
    *) die "unknown command '$1'; known: $KNOWN" ;;
    esac
}

[ $# -gt 0 ] || die "name what to build: $KNOWN"
for name; do
    package=$(package_of "$name")
    recipe=$HERE/go-tools/$name
    directory=$CACHE/$name-$(cat "$recipe"/* | sha256sum | cut -c1-16)
    mkdir -p "$directory"
    exec 9>"$directory/.lock"
    flock 9
    if [ ! -x "$directory/$name" ]; then
        command -v go >/dev/null || die "go is needed to build $name: install Go 1.26 or newer (Debian: golang-go)"
        echo "building $name (minutes, once) …" >&2
        version=$(sed -n "s#^require ${package%/cmd/*} v#v#p" "$recipe/go.mod")
        flags="-s -w"
        component=k8s.io/component-base/version minor=${version#v*.}
        case $name in
        helm) flags="$flags -X helm.sh/helm/v4/internal/version.version=$version" ;;
        kubeadm) flags="$flags -X $component.gitVersion=$version -X $component.gitMajor=1 -X $component.gitMinor=${minor%%.*}" ;;
        esac
        (cd "$recipe" && CGO_ENABLED=0 GOFLAGS=-mod=readonly nice -n 19 go build -trimpath -ldflags "$flags" \
            -o "$directory/.$name.part" "$package" >&2)
        mv "$directory/.$name.part" "$directory/$name" # whole or not at all
    fi
    echo "$directory/$name"
done
