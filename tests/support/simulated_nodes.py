"""A real control plane with simulated nodes: what claims cost at the API server, without paying for kubelets.

etcd (durable), kube-apiserver with an audit log, the garbage collector, kwok as every node's kubelet, our controller
and manager as processes of their own, and a stub that answers ``/init`` for every pod. Pods get addresses of
127.64.0.0/16, all of which are this machine's loopback, so one stub on 0.0.0.0 is every runtime. Because that is a
fixed port, all of it must live in a network namespace of its own: ``enter_network_namespace`` starts the calling
program again in one.

Each component has its own token, hence its own name in the audit log: ``Audit`` counts requests by component.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api_servers import ROOT
from real_cluster import ASSETS, Etcd, RealApiServer, ended, run

NODE = "simulated"
STAGES = Path(__file__).with_name("simulated_stages.yaml")
NEEDED = ("etcd", "kube-apiserver", "kube-controller-manager", "kwok")
_INSIDE = "APPLIANCE_BENCH_NAMESPACE"
_SYSTEM = "sandbox-system"
_COMPONENTS = ("manager", "controller", "gc", "kwok", "bench")
_STUB = """
import asyncio
class Stub(asyncio.Protocol):
    def connection_made(self, transport): self.transport, self.seen = transport, b""
    def data_received(self, data):
        self.seen += data
        while b"\\r\\n\\r\\n" in self.seen:
            head, rest = self.seen.split(b"\\r\\n\\r\\n", 1)
            lengths = [line for line in head.lower().split(b"\\r\\n") if line.startswith(b"content-length:")]
            length = int(lengths[0].split(b":")[1]) if lengths else 0
            if len(rest) < length: return
            self.seen = rest[length:]
            self.transport.write(b"HTTP/1.1 204 No Content\\r\\nX-Envd-Version: 0.6.13\\r\\n\\r\\n")
async def main():
    server = await asyncio.get_running_loop().create_server(Stub, "0.0.0.0", 49983, backlog=1024)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def enter_network_namespace() -> None:
    """Start this program again in a new network namespace with loopback up, unless it runs in one already."""
    if os.environ.get(_INSIDE):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    os.environ[_INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", "--", sys.executable, *sys.argv])


@dataclass
class Audit:
    """Requests seen in kube-apiserver's audit log since the last ``mark``, by (component, verb, resource, status)."""

    path: Path
    offset: int = 0

    def mark(self) -> None:
        """Count from here."""
        self.offset = self.path.stat().st_size if self.path.exists() else 0

    def counts(self) -> Counter[tuple[str, str, str, int]]:
        """What was answered since the mark; watches are left out."""
        found: Counter[tuple[str, str, str, int]] = Counter()
        with self.path.open("rb") as log:
            log.seek(self.offset)
            for line in log:
                entry = json.loads(line)
                if entry["verb"] == "watch" or "objectRef" not in entry:
                    continue
                what = entry["objectRef"]
                resource = what["resource"] + ("/" + what["subresource"] if what.get("subresource") else "")
                user = entry["user"]["username"].rsplit(":", 1)[-1]
                found[user, entry["verb"], resource, entry.get("responseStatus", {}).get("code", 0)] += 1
        return found


WRITES = ("create", "update", "patch", "delete")


def per_component(counts: Counter[tuple[str, str, str, int]], units: int) -> dict[str, tuple[float, float]]:
    """(writes, reads) per unit of each component, without what is written by the clock and not by the unit.

    That is leases, and the claim report of each process: a ConfigMap, at most every two seconds during claims.
    """
    result: dict[str, tuple[float, float]] = {}
    for (user, verb, resource, _), count in counts.items():
        if resource in ("leases", "configmaps"):
            continue
        writes, reads = result.get(user, (0.0, 0.0))
        share = count / units
        result[user] = (writes + share, reads) if verb in WRITES else (writes, reads + share)
    return result


@dataclass
class SimulatedCluster:
    """Everything started; ``stop`` ends it. ``directory`` must be empty and on a real disk."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    api: RealApiServer = field(init=False)
    etcd: Etcd = field(init=False)
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    key: str = field(default_factory=lambda: "e2b_" + secrets.token_hex(20))
    url: str = "http://127.0.0.1:8080"

    def start(self) -> None:
        """The control plane, the node and the stub; not yet ours."""
        (self.directory / "etcd").mkdir(parents=True)
        self.etcd = Etcd(self.directory / "etcd", durable=True)
        self.etcd.start()
        self.api = RealApiServer(self.directory / "api", self.etcd)
        (self.directory / "api").mkdir()
        self._tokens = {name: secrets.token_hex(16) for name in _COMPONENTS}
        accounts = f"system:serviceaccounts,system:serviceaccounts:{_SYSTEM},system:authenticated"
        self.api.users = {
            token: (f"system:serviceaccount:{_SYSTEM}:{name}", accounts) for name, token in self._tokens.items()
        }
        self.api.authorization = "AlwaysAllow"
        policy = self.directory / "audit.yaml"
        policy.write_text(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived, ResponseStarted]\n"
            "rules: [{level: Metadata}]\n"
        )
        self.api.options = (f"--audit-policy-file={policy}", f"--audit-log-path={self.directory}/audit.log")
        self.api.start()
        assert self.api.process is not None
        self.processes |= {"apiserver": self.api.process, **({"etcd": self.etcd.process} if self.etcd.process else {})}
        for namespace in (_SYSTEM,):
            code, said = self.api.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
            assert code in (201, 409), said
        self._start_simulators()

    def _start_simulators(self) -> None:
        self.processes["gc"] = run(
            "kube-controller-manager",
            self.directory / "gc.log",
            f"--kubeconfig={self.kubeconfig('gc')}",
            "--controllers=garbage-collector-controller,namespace-controller",
            *("--leader-elect=false", "--secure-port=0", "--kube-api-qps=500", "--kube-api-burst=1000"),
        )
        self.processes["kwok"] = run(
            "kwok",
            self.directory / "kwok.log",
            f"--kubeconfig={self.kubeconfig('kwok')}",
            *("--manage-all-nodes=true", "--cidr=127.64.0.1/16", "--node-ip=127.0.0.1"),
            *("--node-lease-duration-seconds=0", "--server-address=127.0.0.1:10247", f"--config={STAGES}"),
        )
        code, said = self.api.request("POST", "/api/v1/nodes", _node())
        assert code in (201, 409), said
        stub = subprocess.Popen([sys.executable, "-c", _STUB], stdout=subprocess.PIPE, text=True)
        assert stub.stdout is not None
        assert stub.stdout.readline() == "ready\n"
        self.processes["stub"] = stub

    def kubeconfig(self, component: str) -> Path:
        """A kubeconfig with that component's token."""
        path = self.directory / f"{component}.kubeconfig"
        config = json.loads(self.api.kubeconfig.read_text())
        config["users"][0]["user"]["token"] = self._tokens[component]
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        return path

    def start_role(self, role: str, *arguments: str, wait: float = 60.0) -> float:
        """Start our controller or manager; seconds until it says that it is ready (manager) or at once (controller)."""
        log = self.directory / f"{role}.log"
        began = time.monotonic()
        with log.open("a") as output:
            self.processes[role] = subprocess.Popen(
                [sys.executable, "-m", "appliance", f"--role={role}", "--data-dir", str(self.directory / "data"),
                 "--kubeconfig", str(self.kubeconfig(role)), *arguments],
                stdout=output, stderr=output, text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), **self.environment},
            )  # fmt: skip
        while role == "manager" and not self._healthy():
            assert self.processes[role].poll() is None, log.read_text()[-4000:]
            assert time.monotonic() - began < wait, log.read_text()[-4000:]
            time.sleep(0.02)
        return time.monotonic() - began

    def start_ours(self) -> None:
        """Controller (leader election on, as shipped) and manager."""
        key = self.directory / "api-key"
        key.touch(mode=0o600)
        key.write_text(self.key)
        (self.directory / "data" / "run").mkdir(parents=True, exist_ok=True)
        self.start_role("controller")
        self.start_role("manager", "--listen", self.url.removeprefix("http://"), "--api-key-file", str(key))

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def end(self, name: str, number: int = signal.SIGTERM) -> None:
        """Stop one process and wait for it."""
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(30)

    def stop(self) -> None:
        """Everything, ours first."""
        for name in ("manager", "controller", "kwok", "gc", "stub", "apiserver", "etcd"):
            if (process := self.processes.pop(name, None)) is not None:
                ended(process)
                if process.stdout is not None:
                    process.stdout.close()

    def cpu(self) -> dict[str, float]:
        """Seconds of processor time of each process so far."""
        tick = os.sysconf("SC_CLK_TCK")
        used = {}
        for name, process in self.processes.items():
            fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            used[name] = (int(fields[11]) + int(fields[12])) / tick
        return used

    def pss(self, name: str) -> float:
        """MiB of proportional set size of one process."""
        rollup = Path(f"/proc/{self.processes[name].pid}/smaps_rollup").read_text()
        return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024


def _node() -> dict[str, Any]:
    size = {"cpu": "100000", "memory": "100Ti", "pods": "20000"}
    return {
        "metadata": {"name": NODE, "annotations": {"node.alpha.kubernetes.io/ttl": "0", "kwok.x-k8s.io/node": "fake"}},
        "status": {"allocatable": size, "capacity": size},
    }


def missing() -> str | None:
    """Why this cannot run here, or None."""
    absent = [name for name in NEEDED if ASSETS is None or not os.access(Path(ASSETS) / name, os.X_OK)]
    return f"set KUBEBUILDER_ASSETS=$(packaging/kube-assets.sh {' '.join(NEEDED)})" if absent else None
