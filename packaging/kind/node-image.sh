#!/usr/bin/env bash
# Prints the path of an image archive for kind's nodes, made without Docker or a registry, for `packaging/kind/up.sh --image`: Debian by
# debootstrap with systemd, containerd and the CNI plugins, kind's own start of a node as its Go module has it, and Kubernetes, etcd
# and CoreDNS built from source. Single nodes only: the pods' network is a bridge. Besides what kind's own images do, it starts where
# control groups are of version 1 and where root lacks CAP_SYS_RESOURCE.
# Needs root, Go and a Debian mirror; without the Kubernetes programs (packaging/kube-assets.sh, 13 minutes once) it takes about five
# minutes, once; cached outside the checkout by the checksum of the recipe.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PACKAGING=$(dirname "$HERE")
VERSION=v1.36.3
NAME=appliance.test/kind-node:$VERSION
PACKAGES=systemd,containerd,runc,containernetworking-plugins,conntrack,iptables,nftables,iproute2,ethtool,mount,kmod,procps,socat,ca-certificates
SUITE=bookworm # the last with a systemd that takes control groups of version 1
MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
REGISTRY=registry.k8s.io
COREDNS=v1.14.2 ETCD=3.6.8-0 # the tags that kubeadm of this version asks for
KUBERNETES=(kube-apiserver kube-controller-manager kube-scheduler kube-proxy)

die() { echo "node-image: $*" >&2; exit 1; }

# pack NAME ROOT OUTPUT [CONFIG]: a root file system to an image archive.
pack() {
    tar -C "$2" --numeric-owner --sort=name --exclude='./proc/*' --exclude='./sys/*' --exclude='./dev/*' -cf "$work/layer.tar" .
    python3 "$PACKAGING/images/archive.py" "$1" "$work/layer.tar" "$3" "${4:-{\}}"
    rm "$work/layer.tar"
}

# with_libraries ROOT TARGET FILE…: copy programs and plugins of ROOT and the libraries they need to TARGET.
with_libraries() {
    local root=$1 target=$2 path
    shift 2
    for path in "$@" $(chroot "$root" ldd "$@" | grep -oE '/lib[^ )]+' | grep -v ':$' | sort -u); do
        mkdir -p "$target$(dirname "$path")"
        cp --dereference "$root$path" "$target$path"
    done
}

# The images of the static pods, of kube-proxy, of DNS and of the pause container; `names` is what else the first one is called.
pod_images() { # ROOT
    local root=$1 images=$1/kind/images tools=$work/tools name
    mkdir -p "$images" "$tools"/{usr/local/bin,usr/sbin,tmp,etc} "$work"/{dns,pause}
    for name in etcd "${KUBERNETES[@]}"; do cp "$assets/$name" "$tools/usr/local/bin/"; done
    with_libraries "$root" "$tools" /usr/sbin/nft /usr/sbin/xtables-nft-multi \
        $(cd "$root" && find usr/lib/*/xtables -name '*.so' -printf '/%p ')
    for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
        ln -s xtables-nft-multi "$tools/usr/sbin/$name"
    done
    pack "$REGISTRY/etcd:$ETCD" "$tools" "$images/kubernetes.tar" '{"Env": ["PATH=/usr/local/bin:/usr/sbin:/usr/bin"]}'
    for name in "${KUBERNETES[@]}"; do echo "$REGISTRY/$name:$VERSION"; done >"$images/names"
    cp "$coredns" "$work/dns/coredns"
    pack "$REGISTRY/coredns/coredns:$COREDNS" "$work/dns" "$images/coredns.tar" '{"Entrypoint": ["/coredns"]}'
    cp "$(command -v busybox)" "$work/pause/busybox"
    pack "$REGISTRY/pause:appliance" "$work/pause" "$images/pause.tar" '{"Entrypoint": ["/busybox", "sleep", "2147483647"]}'
}

# What kind brings for a node, as its module has it, and what is different here.
settings() { # ROOT
    local root=$1 files
    files=$(cd "$PACKAGING/go-tools/kind" && GOFLAGS=-mod=readonly go mod download -json sigs.k8s.io/kind |
        sed -n 's/.*"Dir": "\(.*\)".*/\1/p')/images/base/files
    [ -d "$files" ] || die "kind's module has no images/base/files"
    cp -r --no-preserve=mode,ownership "$files"/{etc,kind,usr} "$root/"
    echo "$VERSION" >"$root/kind/version"
    cp -r "$HERE/node"/* "$root/"
    chmod 755 "$root/kind/bin"/* "$root/usr/local/bin"/*
    mkdir -p "$root"/{opt/cni/bin,etc/kubernetes/manifests,lib/modules}
    mv "$root/usr/lib/cni"/{bridge,host-local,loopback,portmap} "$root/opt/cni/bin/"
    rm -r "$root/usr/lib/cni"
    ln -sf /usr/bin/containerd "$root/usr/local/bin/containerd"
    ln -sf /usr/lib/systemd/systemd "$root/sbin/init"
    for program in kubelet:"$assets/kubelet" kubeadm:"$kubeadm" kubectl:"$kubectl"; do
        cp "${program#*:}" "$root/usr/bin/${program%%:*}"
    done
    local units=$root/usr/lib/systemd/system
    rm -f "$root"/etc/systemd/system/*.wants/* "$units"/{multi-user,local-fs,basic,timers}.target.wants/* \
        "$units"/sockets.target.wants/*{udev,initctl}* "$units/sysinit.target.wants/systemd-tmpfiles-setup.service"
    rm -f "$root"/usr/lib/sysctl.d/* # the whole machine's settings are not a node's to change
    echo ReadKMsg=no >>"$root/etc/systemd/journald.conf"
    chroot "$root" systemctl enable containerd.service kubelet.service undo-mount-hacks.service >/dev/null 2>&1
    chroot "$root" systemctl mask systemd-binfmt.service systemd-udevd.service getty.target console-getty.service >/dev/null 2>&1
    chroot "$root" systemctl set-default multi-user.target >/dev/null 2>&1
}

build() {
    local root=$work/root
    mkdir -p "$root"
    debootstrap --variant=minbase --include=$PACKAGES $SUITE "$root" "$MIRROR" >"$work/log" 2>&1 ||
        { tail -20 "$work/log" >&2; die "debootstrap failed"; }
    settings "$root"
    pod_images "$root"
    rm -rf "$root"/{var/cache/apt,var/lib/apt/lists,usr/share/doc,usr/share/man,usr/share/locale,var/log}/*
    pack "$NAME" "$root" "$archive" \
        '{"Entrypoint": ["/usr/local/bin/entrypoint", "/sbin/init"], "Env": ["container=docker", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "StopSignal": "SIGRTMIN+3"}'
}

[ $# = 0 ] || die "takes no arguments"
[ "$(id -u)" = 0 ] || die "needs root (debootstrap, owners of files)"
for program in debootstrap busybox python3 go; do
    command -v "$program" >/dev/null || die "$program is needed (Debian: apt-get install debootstrap busybox-static python3 golang-go)"
done
checksum=$(cd "$HERE" && find node node-image.sh ../images/archive.py ../kube-assets.sh ../kube-assets ../go-tools/{kind,kubeadm,coredns} -type f | sort | xargs cat | sha256sum | cut -c1-16)
cache=${APPLIANCE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/appliance}/images
archive=$cache/kind-node-$checksum.tar
mkdir -p "$cache"
exec 9>"$cache/.kind-node.lock"
flock 9
if [ ! -e "$archive" ]; then
    assets=$("$PACKAGING/kube-assets.sh" etcd kubelet "${KUBERNETES[@]}")
    kubectl=$("$PACKAGING/kubectl/build.sh")
    kubeadm=$("$PACKAGING/go-tools.sh" kubeadm)
    coredns=$("$PACKAGING/go-tools.sh" coredns)
    work=$(mktemp -d "$cache/.build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    echo "making kind's node image (minutes, once) …" >&2
    build
fi
echo "$archive"
