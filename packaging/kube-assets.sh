#!/usr/bin/env bash
# Prints a directory with the Kubernetes programs that are named, built from the Go module proxy by the pinned go.mod in
# kube-assets/. Without names: what a control plane needs (etcd, kube-apiserver, kubectl).
#   packaging/kube-assets.sh [etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kubelet|kube-proxy|kubectl|kwok]…
# The binaries are cached outside the checkout under their version and the checksum of their recipe, so a warm call takes
# milliseconds and a changed recipe builds anew. Two callers at once are safe: one builds, the other waits. A first build of
# kube-apiserver takes about 8 minutes on two cores (at low priority), each further program less than 3.
# A KUBEBUILDER_ASSETS directory that has every program named is printed as it is, and nothing is built.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VERSION=v1.36.3
RECIPES=$HERE/kube-assets
KNOWN="etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl kwok"

die() { echo "kube-assets: $*" >&2; exit 1; }

recipe_of() { # PROGRAM → the folder with its go.mod
    case $1 in kwok) echo "$RECIPES/kwok" ;; *) echo "$RECIPES" ;; esac
}

package_of() { # PROGRAM → its Go package
    case $1 in
    etcd) echo go.etcd.io/etcd/server/v3 ;;
    kwok) echo sigs.k8s.io/kwok/cmd/kwok ;;
    *) echo "k8s.io/kubernetes/cmd/$1" ;;
    esac
}

# Kubernetes 1.36 built with Go 1.27 serves a broken OpenAPI document, so the release is fixed, not only a lower bound.
pin_go() {
    command -v go >/dev/null || die "go is needed to build $*: install Go 1.26 (Debian: golang-go)"
    case $(GOTOOLCHAIN=local go env GOVERSION) in go1.26*) export GOTOOLCHAIN=local ;; *) export GOTOOLCHAIN=go1.26.8 ;; esac
}

build() { # PROGRAM
    local ldflags="-s -w" component=k8s.io/component-base/version
    if [ "$1" = kubectl ]; then
        cp "$("$HERE/kubectl/build.sh")" "$assets/.kubectl.part"
    else
        pin_go "$1"
        echo "building $1 (minutes, once) …" >&2
        case $1 in kube*) ldflags="$ldflags -X $component.gitVersion=$VERSION -X $component.gitMajor=1 -X $component.gitMinor=36" ;; esac
        (cd "$(recipe_of "$1")" &&
            CGO_ENABLED=0 GOFLAGS=-mod=readonly nice -n 19 go build -trimpath -ldflags "$ldflags" \
                -o "$assets/.$1.part" "$(package_of "$1")" >&2)
    fi
    mv "$assets/.$1.part" "$assets/$1" # whole or not at all: a build that was killed leaves no program
}

[ $# -gt 0 ] || set -- etcd kube-apiserver kubectl
for program; do
    case " $KNOWN " in *" $program "*) ;; *) die "unknown program '$program'; known: $KNOWN" ;; esac
done

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    missing=
    for program; do [ -x "$KUBEBUILDER_ASSETS/$program" ] || missing="$missing $program"; done
    [ -z "$missing" ] || die "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS lacks$missing; unset it to build them here"
    echo "$KUBEBUILDER_ASSETS"
    exit
fi

checksum=$(cat "${BASH_SOURCE[0]}" "$RECIPES"/{go.mod,go.sum,tools.go} "$RECIPES"/kwok/{go.mod,go.sum,tools.go} \
    "$HERE"/kubectl/{go.mod,go.sum} | sha256sum | cut -c1-16)
assets=${APPLIANCE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/appliance}/kube-$VERSION-$checksum
mkdir -p "$assets"
exec 9>"$assets/.lock"
flock 9
for program; do [ -x "$assets/$program" ] || build "$program"; done
echo "$assets"
