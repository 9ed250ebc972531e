"""Paths and addresses of one node; everything it writes is below one directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NODE = "node1"
NODE_IP = "10.77.0.1"
POD_CIDR = "10.78.0.0/24"
SERVICE_CIDR = "10.96.0.0/16"
SERVICE_IP = "10.96.0.1"
API_PORT = 6443
ETCD = "127.0.0.1:2379"
REGISTRY = "127.0.0.1:5000"


@dataclass(frozen=True)
class Layout:
    """Paths; addresses above are inside the node's network namespace, so clusters side by side do not collide."""

    root: Path

    @property
    def cgroup(self) -> str:
        """Name of the node's group in every hierarchy."""
        return f"appliance-node-{self.root.name}"

    @property
    def pki(self) -> Path:
        """Certificates, keys, kubeconfigs."""
        return self.root / "pki"

    @property
    def config(self) -> Path:
        """Rendered configuration files."""
        return self.root / "config"

    @property
    def logs(self) -> Path:
        """``<component>.log``."""
        return self.root / "logs"

    @property
    def images(self) -> Path:
        """Archives that the node's registry serves (links)."""
        return self.root / "images"

    @property
    def containerd_socket(self) -> Path:
        """Where containerd answers."""
        return self.root / "containerd.sock"

    @property
    def control(self) -> Path:
        """Where the node's pid 1 answers."""
        return self.root / "init.sock"

    @property
    def pid_file(self) -> Path:
        """Pid, in the caller's namespace, of the node's pid 1."""
        return self.root / "pid"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, through the loopback relay."""
        return self.root / "kubeconfig"

    def make(self) -> None:
        """Make the directories."""
        for path in (self.pki, self.config / "cni", self.logs, self.images, self.root / "kubelet"):
            path.mkdir(parents=True, exist_ok=True)
