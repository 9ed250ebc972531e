"""What runs on the node, as command lines; in the order in which it is started."""

from __future__ import annotations

import sys
from pathlib import Path

from realnode.layout import API_PORT, ETCD, NODE, NODE_IP, REGISTRY, SERVICE_CIDR, Layout

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
"""Those that ``packaging/kube-assets.sh`` builds; containerd, runc and the CNI plugins are the system's."""
FIRST = ("containerd", "registry", "etcd", "kube-apiserver")
THEN = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")


def commands(layout: Layout, assets: Path) -> dict[str, list[str]]:
    """Component → argv."""
    return {
        "containerd": ["containerd", "--config", f"{layout.config}/containerd.toml"],
        "registry": [sys.executable, str(Path(__file__).with_name("registry.py")), REGISTRY, str(layout.images)],
        "etcd": [str(assets / "etcd"), *_etcd(layout)],
        "kube-apiserver": [str(assets / "kube-apiserver"), *_apiserver(layout)],
        "kube-controller-manager": [str(assets / "kube-controller-manager"), *_controllers(layout)],
        "kube-scheduler": [
            str(assets / "kube-scheduler"), f"--kubeconfig={layout.pki}/scheduler.kubeconfig",
            "--bind-address=127.0.0.1", "--leader-elect=false",
        ],
        "kubelet": [
            str(assets / "kubelet"), f"--config={layout.config}/kubelet.yaml",
            f"--kubeconfig={layout.pki}/kubelet.kubeconfig", f"--root-dir={layout.root}/kubelet",
            f"--cert-dir={layout.root}/kubelet/pki", f"--hostname-override={NODE}", f"--node-ip={NODE_IP}",
        ],
        "kube-proxy": [str(assets / "kube-proxy"), f"--config={layout.config}/proxy.yaml"],
    }  # fmt: skip


def _etcd(layout: Layout) -> list[str]:
    peer = "http://127.0.0.1:2380"
    return [
        "--name=node", f"--data-dir={layout.root}/etcd", "--unsafe-no-fsync", "--logger=zap",
        f"--listen-client-urls=http://{ETCD}", f"--advertise-client-urls=http://{ETCD}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=node={peer}",
    ]  # fmt: skip


def _apiserver(layout: Layout) -> list[str]:
    pki = layout.pki
    return [
        "--bind-address=0.0.0.0", f"--secure-port={API_PORT}", f"--advertise-address={NODE_IP}",
        f"--etcd-servers=http://{ETCD}", f"--service-cluster-ip-range={SERVICE_CIDR}",
        f"--client-ca-file={pki}/ca.crt", f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={pki}/accounts.pub",
        f"--service-account-signing-key-file={pki}/accounts.key",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet.key", f"--kubelet-certificate-authority={pki}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={pki}/front-ca.crt", f"--proxy-client-cert-file={pki}/front.crt",
        f"--proxy-client-key-file={pki}/front.key", "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
        "--profiling=false",
    ]  # fmt: skip


def _controllers(layout: Layout) -> list[str]:
    pki = layout.pki
    return [
        f"--kubeconfig={pki}/kcm.kubeconfig", "--bind-address=127.0.0.1", "--leader-elect=false",
        f"--service-account-private-key-file={pki}/accounts.key", f"--root-ca-file={pki}/ca.crt",
        "--use-service-account-credentials=true", f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key", "--node-monitor-period=1s",
    ]  # fmt: skip
