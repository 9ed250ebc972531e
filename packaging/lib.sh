# Shared by run.sh, test.sh and friends: finding Python, making the locked environment, installing system packages.
# Sourced, never run. Callers set ROOT (the checkout).

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# find_python: prints the newest usable interpreter (3.11 to 3.13 have wheels in the lock; 3.11 is what CI runs).
find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2])' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer with venv is needed; on Debian: apt-get install python3 python3-venv"
}

# locked_venv DIR LOCK: an environment that holds exactly what LOCK pins; made again when the lock or the interpreter changes.
locked_venv() {
    local dir=$1 lock=$2 python stamp
    python=$(find_python) || exit 1
    stamp="$("$python" -c 'import sys; print(sys.version, sys.base_prefix)' | tr '\n' ' ') $(sha256sum <"$lock")"
    installed_once "$dir" "$stamp" install_venv "$dir" "$lock" "$python" || exit 1
}
install_venv() {
    local dir=$1 lock=$2 python=$3
    say "installing the locked Python packages into $dir …"
    rm -rf "$dir"
    "$python" -m venv "$dir" || die "cannot make a virtual environment in $dir (on Debian: apt-get install python3-venv)"
    PYTHONDONTWRITEBYTECODE= "$dir/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r "$lock" ||
        die "the packages of $lock could not be installed; is a package index (or PIP_FIND_LINKS with the wheels) reachable?"
}

# locked_npm DIR SOURCE: DIR/node_modules as SOURCE/package-lock.json pins it, with hashes; made again when that changes.
locked_npm() {
    local dir=$1 source=$2 stamp
    stamp="$(node --version) $(cat "$source/package.json" "$source/package-lock.json" | sha256sum)"
    installed_once "$dir" "$stamp" install_npm "$dir" "$source" || exit 1
}
install_npm() {
    local dir=$1 source=$2
    say "installing the locked npm packages into $dir …"
    rm -rf "$dir"
    mkdir -p "$dir"
    cp "$source/package.json" "$source/package-lock.json" "$dir/"
    (cd "$dir" && npm ci --silent --no-audit --no-fund --ignore-scripts) ||
        die "the packages of $source could not be installed; is an npm registry reachable?"
}

# installed_once DIR STAMP COMMAND…: runs COMMAND unless DIR is of that stamp, by one process at a time (DIR.lock). Only
# the installing programs inherit the descriptor, so that the lock is held as long as one of them still writes, also when
# this shell was killed, and never by what the caller starts later.
installed_once() {
    local dir=$1 stamp=$2
    shift 2
    if is_installed "$dir" "$stamp"; then return; fi
    mkdir -p "$(dirname "$dir")"
    (
        flock --nonblock 9 || { say "waiting for another process that installs into $dir …" && flock 9; } || exit 1
        if is_installed "$dir" "$stamp"; then exit; fi
        "$@" || exit 1
        printf '%s' "$stamp" >"$dir/.locked"
    ) 9>"$dir.lock"
}
is_installed() { [ "$(cat "$1/.locked" 2>/dev/null)" = "$2" ]; }

# command_shim ROOT DIR: DIR/bin/appliance, the command of this checkout in that environment.
command_shim() {
    local made="$2/bin/.appliance.$$"
    cat >"$made" <<EOF
#!/bin/sh
export APPLIANCE_COMMAND="$2/bin/appliance" PYTHONPATH="$1\${PYTHONPATH:+:\$PYTHONPATH}"
exec "$2/bin/python" -m appliance "\$@"
EOF
    chmod +x "$made"
    mv "$made" "$2/bin/appliance" # in one step: another run.sh may be starting it
}

# need_programs "PROGRAM:PACKAGE:WHY"…: installs what is missing with apt-get when it can, else says what and why.
need_programs() {
    local entry program package why missing=() lines=()
    for entry in "$@"; do
        IFS=: read -r program package why <<<"$entry"
        PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null 2>&1 && continue
        missing+=("$package")
        lines+=("  $program (package $package): $why")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing system packages: ${missing[*]}"
        (
            flock 9 # dpkg takes one at a time and fails the other; what it starts must not hold the lock
            DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null 2>&1 9>&- || true
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 9>&-
        ) 9>/var/lib/dpkg/appliance.lock && return
    fi
    say "these programs are missing and could not be installed$([ "$(id -u)" = 0 ] || echo ' without root'):"
    printf '%s\n' "${lines[@]}" >&2
    die "install them (Debian: apt-get install ${missing[*]}) and start again"
}

# need_kind: kind in PATH, built when there is none and Go can.
need_kind() {
    local built
    if command -v kind >/dev/null 2>&1; then return; fi
    command -v go >/dev/null 2>&1 ||
        die "kind is not in PATH: see https://kind.sigs.k8s.io, or install Go 1.26 (Debian: golang-go) and it is built here"
    built=$("$ROOT/packaging/go-tools.sh" kind) || exit 1
    PATH=$PATH:$(dirname "$built")
}

BOX_PROGRAMS=(
    "ip:iproute2:makes the sandboxes' network"
    "nft:nftables:keeps sandboxes apart on the network"
    "mkfs.ext4:e2fsprogs:makes the sandboxes' bounded disks"
    "sudo:sudo:is what \`sudo\` runs inside sandboxes"
    "git:git:is what the SDK's git module runs inside sandboxes"
)

NODE_PROGRAMS=(
    "containerd:containerd:runs the containers of the real Kubernetes node"
    "runc:runc:runs the containers of the real Kubernetes node"
    "/usr/lib/cni/bridge:containernetworking-plugins:makes its pods' network"
    "iptables:iptables:is what its CNI plugins masquerade with"
    "nft:nftables:is what its kube-proxy programs"
    "conntrack:conntrack:is what its kube-proxy needs"
    "ethtool:ethtool:is what its kubelet needs"
    "socat:socat:is what its kubelet forwards ports with"
    "busybox:busybox-static:is its pause image"
    "debootstrap:debootstrap:makes the code-interpreter image without Docker"
)
NODE_ASSETS=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)
