"""One real node: up, down, parts stopped and started, programs run inside its network.

    with RealNode(Path("/tmp/n")) as node:
        node.kubectl("get", "nodes")

``up`` takes about twelve seconds on two cores. Everything the node starts is in its pid namespace and everything it
mounts or creates in its other namespaces, so the end of its pid 1 is the end of all of it; control groups and the
directory are then removed. A node dies with the process that started it unless ``detached``. Such a short-lived one has
images, volumes and etcd's data in memory where there is plenty (``VOLATILE``): a sandbox's runtime is 6,500 files, and
removing all of them from a disk took longer than any test.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from realnode import components, configs, groups, images, pki
from realnode.control import Control
from realnode.layout import API_PORT, NODE, Layout

NEEDED = {
    "containerd": "containerd", "ctr": "containerd", "runc": "runc", "iptables": "iptables", "conntrack": "conntrack",
    "ethtool": "ethtool", "socat": "socat", "busybox": "busybox-static", "debootstrap": "debootstrap",
    "nft": "nftables",    "unshare": "util-linux", "nsenter": "util-linux", "setpriv": "util-linux", "ip": "iproute2",
}  # fmt: skip
"""Program → Debian package."""
PLUGINS = Path("/usr/lib/cni")
VOLATILE = ("containerd", "containerd-state", "etcd", "kubelet")
"""Directories of the node that go into memory; two gigabytes at the end of the tests."""
PLENTY = 8 << 30
"""Bytes of available memory from which on they do."""
PATIENCE = 120.0
"""Seconds for each step of the bring-up on a machine that is busy with other tests."""


def missing() -> str | None:
    """Why no node can be started here, or None."""
    if os.geteuid() != 0:
        return "a node needs root"
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    absent = sorted({package for name, package in NEEDED.items() if shutil.which(name, path=path) is None})
    if not (PLUGINS / "bridge").exists():
        absent.append("containernetworking-plugins")
    if absent:
        return f"Debian packages missing: {' '.join(absent)} (packaging/test.sh --all installs them)"
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets is None:
        return f"KUBEBUILDER_ASSETS is not set: packaging/kube-assets.sh {' '.join(components.PROGRAMS)}"
    lacking = [name for name in components.PROGRAMS if not os.access(Path(assets) / name, os.X_OK)]
    return (
        f"{', '.join(lacking)} missing in KUBEBUILDER_ASSETS={assets}; see packaging/kube-assets.sh"
        if lacking
        else None
    )


class RealNode:
    """A node in a directory of its own. ``laps`` are the seconds after which each step of ``up`` was done."""

    def __init__(self, root: Path, *, detached: bool = False) -> None:
        self.layout = Layout(root)
        self.control = Control(self.layout.control)
        self.laps: dict[str, float] = {}
        self.assets = Path(os.environ.get("KUBEBUILDER_ASSETS", ""))
        self._detached = detached
        self._tls: ssl.SSLContext | None = None
        self._children: list[subprocess.Popen[bytes]] = []

    # Up and down ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> RealNode:
        """``up``; what a failed one leaves is removed."""
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """``down``."""
        self.down()

    def up(self, archives: tuple[Path, ...] = ()) -> None:
        """Start everything and wait until pods can be made. ``archives`` are imported beside the pause image.

        Raises RuntimeError, with the end of the log concerned, when something does not come up.
        """
        began = time.monotonic()
        self.layout.make()
        pki.make(self.layout)
        configs.write(self.layout)
        groups.make(self.layout.cgroup)
        self._unshare()
        self._lap("namespaces", began)
        self.start(*components.FIRST)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            importing = pool.submit(self._import, (images.busybox(), *archives), began)
            self.relay("api", "127.0.0.1", API_PORT)
            self._wait("kube-apiserver", self._serving)
            self._lap("API server", began)
            self.start(*components.THEN)
            importing.result()
        self._wait("kubelet", self.ready)
        self._lap("node ready", began)
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self._wait("kube-controller-manager", lambda: self.request("GET", account)[0] == 200)
        self._lap("pods can be made", began)

    def down(self) -> None:
        """Kill the node and remove what is outside of it; safe to repeat, and on what a crash left."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            outer = int((self.layout.root / "unshare.pid").read_text())
            if _is_ours(outer, self.layout.root):
                for child in Path(f"/proc/{outer}/task/{outer}/children").read_text().split():
                    os.kill(int(child), signal.SIGKILL)
                if not self._children:  # another process's node
                    _gone(outer)
        for process in self._children:  # unshare, and the relays, which end with the node
            process.wait(30)
        self._children.clear()
        groups.remove(self.layout.cgroup)
        shutil.rmtree(self.layout.root, ignore_errors=True)

    def _unshare(self) -> None:
        script = Path(__file__).with_name("init.py")
        command = ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--mount-proc"]
        if not self._detached:  # dies with us, however we die
            command = ["setpriv", "--pdeathsig", "KILL", *command, "--kill-child"]
        command += [sys.executable, "-I", str(script), str(self.layout.root)]
        if not self._detached and plenty():
            command += VOLATILE
        environment = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        with (self.layout.logs / "init.log").open("w") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
                cwd=self.layout.root,
            )  # fmt: skip
        self._children.append(process)
        (self.layout.root / "unshare.pid").write_text(str(process.pid))
        self._wait("init", lambda: self.layout.control.exists() or process.poll() is not None)
        if process.poll() is not None:
            raise RuntimeError(f"the node's pid 1 ended: {self.log('init')}")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        self.layout.pid_file.write_text(children[0])

    def _import(self, archives: tuple[Path, ...], began: float) -> None:
        self._wait("containerd", self.layout.containerd_socket.exists)
        for archive in archives:
            self.load(archive)
        self._lap("images", began)

    def _lap(self, name: str, began: float) -> None:
        self.laps[name] = time.monotonic() - began

    # Parts ----------------------------------------------------------------------------------------------------------

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, for use outside."""
        return self.layout.kubeconfig

    @property
    def kubectl_program(self) -> str:
        """kubectl of the same release."""
        return os.environ.get("APPLIANCE_TEST_KUBECTL") or str(self.assets / "kubectl")

    @property
    def pid(self) -> int:
        """Of the node's pid 1, as seen from outside."""
        return int(self.layout.pid_file.read_text())

    def start(self, *names: str) -> None:
        """Start components (again)."""
        known = components.commands(self.layout, self.assets)
        for name in names:
            self.control.start(name, known[name])

    def restart(self, name: str, *flags: str) -> None:
        """End a component and start it with more flags, which win over its own of the same name."""
        self.stop(name, signal.SIGKILL)
        self.control.start(name, [*components.commands(self.layout, self.assets)[name], *flags])

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """End a component and wait for its end."""
        self.control.stop(name, number)

    def await_api(self) -> None:
        """Until the API server serves."""
        self._wait("kube-apiserver", self._serving)

    def load(self, archive: Path) -> None:
        """Import an image archive into containerd."""
        ctr = ["ctr", "--address", str(self.layout.containerd_socket), "--namespace", "k8s.io"]
        done = self._enter(*ctr, "image", "import", str(archive))
        if done.returncode:
            raise RuntimeError(f"{archive} could not be imported: {done.stderr}")

    def shelve(self, archive: Path) -> None:
        """Offer an archive in the node's registry, under the name it has in its index."""
        with contextlib.suppress(FileExistsError):
            (self.layout.images / archive.name).symlink_to(archive.resolve())

    def log(self, name: str, size: int = 4000) -> str:
        """The end of a component's log."""
        path = self.layout.logs / f"{name}.log"
        return path.read_text(errors="replace")[-size:] if path.exists() else "(no log)"

    def _wait(self, name: str, done: Callable[[], object], timeout: float = PATIENCE) -> None:
        deadline = time.monotonic() + timeout
        while not done():
            if name in (*components.FIRST, *components.THEN) and self.control.exit_code(name) is not None:
                raise RuntimeError(f"{name} ended with {self.control.exit_code(name)}: {self.log(name)}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} is not ready after {timeout:g} s: {self.log(name)}")
            time.sleep(0.05)

    def _serving(self) -> bool:
        try:
            return self.request("GET", "/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def ready(self) -> bool:
        """Whether the node says it is Ready."""
        status, node = self.request("GET", f"/api/v1/nodes/{NODE}")
        if status != 200:
            return False
        said = node.get("status", {}).get("conditions", [])
        return any(item["type"] == "Ready" and item["status"] == "True" for item in said)

    # From outside ---------------------------------------------------------------------------------------------------

    def relay(self, name: str, host: str, port: int) -> str:
        """A loopback address of the machine that leads to HOST:PORT inside; it ends with the node."""
        said = self.layout.root / f"relay-{name}.json"
        said.unlink(missing_ok=True)
        script = Path(__file__).with_name("relay.py")
        with (self.layout.logs / f"relay-{name}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-I", str(script), str(self.pid), str(said), f"{name}={host}:{port}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._children.append(process)
        self._wait(f"relay-{name}", said.exists, 30.0)
        if name == "api":
            self.layout.kubeconfig.write_text(pki.kubeconfig(self.layout, "admin", f"https://{self.address('api')}"))
            self.layout.kubeconfig.chmod(0o600)
        return self.address(name)

    def address(self, name: str) -> str:
        """The address that ``relay`` made."""
        found: str = json.loads((self.layout.root / f"relay-{name}.json").read_text())[name]
        return found

    def request(self, method: str, path: str, body: Any = None, *, media: str = "application/json") -> tuple[int, Any]:
        """One API request as administrator: (status, decoded JSON or text)."""
        if self._tls is None:
            context = ssl.create_default_context(cafile=str(self.layout.pki / "ca.crt"))
            context.load_cert_chain(self.layout.pki / "admin.crt", self.layout.pki / "admin.key")
            self._tls = context
        host, _, port = self.address("api").rpartition(":")
        connection = http.client.HTTPSConnection(host, int(port), timeout=20, context=self._tls)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, body=data, headers={"Content-Type": media})
            answer = connection.getresponse()
            text = answer.read().decode()
            json_answer = (answer.getheader("Content-Type") or "").startswith("application/json")
            return answer.status, json.loads(text) if json_answer else text
        finally:
            connection.close()

    def command(self, *words: str) -> list[str]:
        """``words`` in the node's network, with the machine's own files."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *words]

    def run(self, *words: str, env: Mapping[str, str] | None = None, timeout: float = 120
            ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run a program in the node's network and return what came of it."""
        whole = {**os.environ, **(env or {})}
        return subprocess.run(
            self.command(*words), env=whole, capture_output=True, text=True, timeout=timeout, check=False
        )

    def _enter(self, *words: str) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--net", "--pid", "--uts", "--ipc", "--wd=/", "--"]
        return subprocess.run([*enter, *words], capture_output=True, text=True, timeout=300, check=False)


def plenty() -> bool:
    """Whether ``PLENTY`` of memory can be had without pushing anybody out."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) << 10 >= PLENTY


def _is_ours(pid: int, root: Path) -> bool:
    """Whether that process is the ``unshare`` of this node; pids are used again."""
    try:
        return str(root).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _gone(pid: int) -> None:
    """Until it has ended, also as a child of ours that nobody waited for."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return
        except ChildProcessError:
            if not Path(f"/proc/{pid}").exists():
                return
        time.sleep(0.02)
    raise TimeoutError(f"process {pid} of the node did not end")
