#!/usr/bin/env bash
# Prints the path of a kubectl 1.36.3, built from the Go module proxy by the pinned go.mod beside this file. The binary is
# cached outside the checkout under its checksummed recipe; two callers at once are safe (one builds, the other waits).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=v1.36.3
recipe=$(cat "$here/go.mod" "$here/go.sum" "$here/tools.go" | sha256sum | cut -c1-16)
cache=${APPLIANCE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/appliance}/kubectl-$version-$recipe
mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9
if [ ! -x "$cache/kubectl" ]; then
    echo "building kubectl $version (two minutes, once) …" >&2
    package=k8s.io/component-base/version
    cd "$here"
    CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -o "$cache/kubectl.part" \
        -ldflags "-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=36" \
        k8s.io/kubernetes/cmd/kubectl >&2
    mv "$cache/kubectl.part" "$cache/kubectl"
fi
echo "$cache/kubectl"
