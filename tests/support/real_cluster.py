"""A real Kubernetes control plane for contract tests: etcd, kube-apiserver and, for deletion, kube-controller-manager.

The programs come from ``KUBEBUILDER_ASSETS`` (``packaging/kube-assets.sh`` makes such a directory). No node runs here
and none is needed: pods are objects. etcd listens on a Unix socket below the data directory, so only the API server
needs a port; it cannot pick one itself, so a free one is looked up and the start is tried again should somebody take it
meanwhile. Of the controllers only the garbage collector's and the namespaces' run: the embedded server has their work
built in.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from api_servers import ACCOUNTS, ApiServer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.api.crds import all_crds

ASSETS = os.environ.get("KUBEBUILDER_ASSETS")
NEEDED = ("etcd", "kube-apiserver", "kube-controller-manager")
READY = 120.0
"""Seconds a program may take to serve, on a machine that is busy with other tests."""
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def missing() -> str | None:
    """Why no real cluster can be started here, or None."""
    if ASSETS is None:
        return "KUBEBUILDER_ASSETS is not set: KUBEBUILDER_ASSETS=$(packaging/kube-assets.sh " + " ".join(NEEDED) + ")"
    absent = [name for name in NEEDED if not os.access(Path(ASSETS) / name, os.X_OK)]
    return (
        f"{', '.join(absent)} missing in KUBEBUILDER_ASSETS={ASSETS}; see packaging/kube-assets.sh" if absent else None
    )


def run(name: str, log: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start one of the programs with its output in ``log``."""
    with log.open("a") as output:
        return subprocess.Popen(
            [f"{ASSETS}/{name}", *arguments], stdout=output, stderr=output, text=True, cwd=log.parent
        )


def ended(process: subprocess.Popen[str]) -> None:
    """Terminate and wait; killed when it does not go."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Etcd:
    """One etcd that several API servers share, each under a prefix of its own."""

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        """``durable``: wait for the disk at every write, as in production; tests do without."""
        self.directory = directory
        self.url = f"unix://{directory}/client.sock"
        self.process: subprocess.Popen[str] | None = None
        self._sync = () if durable else ("--unsafe-no-fsync",)

    def start(self) -> None:
        """Start it and wait for its socket; fails with its log when it ends instead."""
        unused = "http://127.0.0.1:2380"  # an address is demanded, but nobody is told it and a lone member has no peer
        self.process = run(
            "etcd",
            self.directory / "etcd.log",
            *("--name=test", f"--data-dir={self.directory}/data", *self._sync, "--logger=zap"),
            *(f"--listen-client-urls={self.url}", f"--advertise-client-urls={unused}"),
            *(f"--listen-peer-urls=unix://{self.directory}/peer.sock", f"--initial-advertise-peer-urls={unused}"),
            f"--initial-cluster=test={unused}",
        )
        end = time.monotonic() + READY
        while not (self.directory / "client.sock").exists():
            if self.process.poll() is not None or time.monotonic() > end:
                pytest.fail(f"etcd did not start: {(self.directory / 'etcd.log').read_text()[-4000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, if it runs."""
        if self.process is not None:
            ended(self.process)


class RealApiServer(ApiServer):
    """kube-apiserver with the product's CRDs. RBAC is on, the token is an administrator's."""

    def __init__(self, data_dir: Path, etcd: Etcd, *, crds: bool = True) -> None:
        """``crds=False``: a cluster on which nothing of ours was ever installed."""
        super().__init__(data_dir)
        self.etcd = etcd
        self._crds = crds
        self.users: dict[str, tuple[str, str]] = {}
        """Further users: token -> (name, groups separated by commas)."""
        self.authorization = "RBAC"
        self.options: tuple[str, ...] = ()
        """Further options of kube-apiserver."""
        self._controllers: subprocess.Popen[str] | None = None

    @property
    def log(self) -> Path:
        """What kube-apiserver says."""
        return self.data_dir / "kube-apiserver.log"

    def start(self) -> None:
        """Start it on the port it had, or on a free one, and wait until it serves our kinds."""
        self.make_certificates()
        self._accounts_key()
        accounts = {self.accounts[role]: ACCOUNTS[role] for role in ACCOUNTS}
        users = {self.token: ("admin", "system:masters"), **accounts, **self.users}
        lines = [f'{token},{name},{name},"{groups}"\n' for token, (name, groups) in users.items()]
        (self.data_dir / "tokens.csv").write_text("".join(lines))
        for _ in range(3):
            if not self.listen:
                self.listen = f"127.0.0.1:{_free_port()}"
            self.process = self._run()
            if self._serves():
                break
            self.listen = ""
        else:
            pytest.fail(f"kube-apiserver did not start: {self.log.read_text()[-4000:]}")
        self.write_kubeconfig()
        if self._crds:
            self._install()

    def run_controllers(self) -> None:
        """The two controllers that finish deletions: garbage collector and namespaces."""
        self._controllers = run(
            "kube-controller-manager",
            self.data_dir / "kube-controller-manager.log",
            f"--kubeconfig={self.kubeconfig}",
            "--controllers=garbage-collector-controller,namespace-controller",
            *("--leader-elect=false", "--secure-port=0", "--kube-api-qps=200", "--kube-api-burst=400"),
        )

    def stop(self, number: int = 15) -> int:
        """End kube-apiserver (and the controllers, which do without it badly)."""
        if self._controllers is not None:
            ended(self._controllers)
            self._controllers = None
        return super().stop(number)

    def _run(self) -> subprocess.Popen[str]:
        tls = self.data_dir / "tls"
        host, port = self.listen.rsplit(":", 1)
        key = self.data_dir / "accounts.key"
        return run(
            "kube-apiserver",
            self.log,
            *(f"--etcd-servers={self.etcd.url}", f"--etcd-prefix=/{self.data_dir.name}"),
            *(f"--bind-address={host}", f"--advertise-address={host}", f"--secure-port={port}"),
            *(f"--tls-cert-file={tls}/server.crt", f"--tls-private-key-file={tls}/server.key"),
            *(f"--token-auth-file={self.data_dir}/tokens.csv", f"--authorization-mode={self.authorization}"),
            *(f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}"),
            *("--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/16"),
            *("--disable-admission-plugins=ServiceAccount", "--profiling=false", "--request-timeout=10s"),
            *("--endpoint-reconciler-type=none", "--goaway-chance=0", "--max-requests-inflight=2000"),
            *self.options,
        )

    def _accounts_key(self) -> None:
        """The key that would sign service account tokens, in the form kube-apiserver reads."""
        path = self.data_dir / "accounts.key"
        if not path.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            form, plain = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))

    def _serves(self) -> bool:
        """Whether /readyz came before the process ended."""
        assert self.process is not None
        end = time.monotonic() + READY
        while time.monotonic() < end and self.process.poll() is None:
            if self._ready():
                return True
            time.sleep(0.1)
        self.process.kill()
        self.process.wait()
        return False

    def _ready(self) -> bool:
        try:
            connection = self.connection(timeout=5)
            connection.request("GET", "/readyz", headers={"Authorization": f"Bearer {self.token}"})
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _install(self) -> None:
        """The product's CRDs, and the wait until each is served."""
        for crd in all_crds():
            code, said = self.request("POST", _CRDS, crd)
            assert code in (201, 409), said
        end = time.monotonic() + READY
        for crd in all_crds():
            while not self._established(crd["metadata"]["name"]):
                assert time.monotonic() < end, f"{crd['metadata']['name']} is not served"
                time.sleep(0.05)

    def _established(self, name: str) -> bool:
        _, crd = self.request("GET", f"{_CRDS}/{name}")
        found = {item["type"]: item["status"] for item in crd.get("status", {}).get("conditions", [])}
        if found.get("Established") != "True":
            return False
        names, group = crd["spec"]["names"], crd["spec"]["group"]
        version = crd["spec"]["versions"][0]["name"]
        return self.request("GET", f"/apis/{group}/{version}/{names['plural']}?limit=1")[0] == 200


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
