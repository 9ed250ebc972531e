"""The Node object: registered at start, refreshed cheaply, truthful about what one box can promise.

Conditions: ``Ready``, ``DiskPressure``, ``MemoryPressure`` (new pods wait while either holds), and
``Reservations`` = False with the sentence that requests reserve nothing here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time
from pathlib import Path
from typing import Any

import aiohttp

import appliance
from appliance.api import labels
from appliance.config import MIB, NodeSettings
from appliance.embedded.node.apiclient import ApiClient, ApiRefused
from appliance.embedded.node.isolation import Isolation
from appliance.embedded.node.podstatus import stamp

log = logging.getLogger(__name__)
Json = dict[str, Any]
SENTENCE = "requests are not reservations on one box; limits are limits"
HEARTBEAT = 60.0
LOOK = 5.0
_DISK_MIN, _DISK_SHARE = 1024**3, 0.02
_MEMORY_MIN, _MEMORY_SHARE = 256 * 1024**2, 0.04


class NodeObject:
    """Keeps the object and the pressure verdict up to date."""

    def __init__(
        self, api: ApiClient, settings: NodeSettings, address: str, notes: dict[str, str], isolation: Isolation
    ) -> None:
        self._api, self._settings, self._address, self._notes = api, settings, address, notes
        self._isolated, self._limits_disks = isolation.isolated, isolation.loops
        self._since: dict[str, tuple[str, str]] = {}
        self.pressure = ""
        """What the box is short of, empty: nothing."""

    async def run(self) -> None:
        """Until cancelled."""
        written: dict[str, tuple[str, str, str]] = {}
        at = 0.0
        while True:
            facts = self._facts()
            if facts != written or time.monotonic() - at > HEARTBEAT:
                try:
                    await self._write(facts)
                    written, at = facts, time.monotonic()
                except (ApiRefused, aiohttp.ClientError, TimeoutError, OSError) as error:
                    log.warning("node object: %s", str(error) or type(error).__name__)
            await asyncio.sleep(LOOK)

    def _facts(self) -> dict[str, tuple[str, str, str]]:
        """Conditions as type -> (status, reason, message)."""
        disk, memory = disk_shortage(self._settings.data_dir), memory_shortage()
        pressure = "; ".join(filter(None, (disk, memory)))
        if pressure != self.pressure:
            log.warning("the box is short: %s; new pods wait", pressure) if pressure else log.info(
                "no shortage any more"
            )
        self.pressure = pressure
        return {
            "Ready": ("True", "NodeReady", "isolation: " + ("namespaces" if self._isolated else "none")),
            "DiskPressure": ("True" if disk else "False", "DiskShort" if disk else "DiskEnough", disk),
            "MemoryPressure": ("True" if memory else "False", "MemoryShort" if memory else "MemoryEnough", memory),
            "PIDPressure": ("False", "PidsLimitedPerPod", ""),
            "Reservations": ("False", "OneBox", SENTENCE),
        }

    async def _write(self, facts: dict[str, tuple[str, str, str]]) -> None:
        path = f"/api/v1/nodes/{self._settings.node_name}"
        meta = {"name": self._settings.node_name, "labels": self._labels(), "annotations": self._notes}
        body: Json = {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {}}
        kind = "application/merge-patch+json"
        try:
            await self._api.call("PATCH", path, {"metadata": meta}, content=kind)
        except ApiRefused as error:
            if error.status != 404:
                raise
            await self._api.call("POST", "/api/v1/nodes", body)
        await self._api.call("PATCH", f"{path}/status", {"status": self._status(facts)}, content=kind)

    def _labels(self) -> dict[str, str | None]:
        arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        name = self._settings.node_name
        return {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": arch,
            labels.NODE_FREEZER: "cgroup" if self._isolated else "signals",
            labels.NODE_KEEPS_FILES: "true" if self._isolated else None,
            labels.NODE_NETWORK_POLICY: "true" if self._isolated else None,
            labels.NODE_SANDBOX_DISK: f"{self._settings.disk_default // MIB}Mi" if self._limits_disks else None,
        }

    def _status(self, facts: dict[str, tuple[str, str, str]]) -> Json:
        now = stamp(time.time())
        conditions = []
        for kind, (status, reason, message) in facts.items():
            if self._since.get(kind, ("", ""))[0] != status:
                self._since[kind] = (status, now)
            conditions.append(
                {"type": kind, "status": status, "reason": reason, "message": message, "lastHeartbeatTime": now,
                 "lastTransitionTime": self._since[kind][1]}
            )  # fmt: skip
        capacity = self._capacity()
        return {
            "conditions": conditions,
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": [
                {"type": "InternalIP", "address": self._address},
                {"type": "Hostname", "address": platform.node()},
            ],
            "nodeInfo": self._info(),
        }

    def _capacity(self) -> dict[str, str]:
        disk = os.statvfs(self._settings.data_dir)
        return {
            "cpu": str(os.cpu_count() or 1),
            "memory": f"{_meminfo()['MemTotal'] // 1024}Ki",
            "ephemeral-storage": f"{disk.f_blocks * disk.f_frsize // 1024}Ki",
            "pods": "2048",
        }

    @staticmethod
    def _info() -> Json:
        version = getattr(appliance, "__version__", "0.1.0")
        return {
            "kernelVersion": platform.release(),
            "osImage": "one box",
            "containerRuntimeVersion": f"appliance://{version}",
            "kubeletVersion": f"v1.33.0-appliance-{version}",
            "operatingSystem": "linux",
            "architecture": platform.machine(),
            "bootID": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "machineID": "",
            "systemUUID": "",
            "kubeProxyVersion": "",
        }


def disk_shortage(directory: Path) -> str:
    """Says how little is free where layers grow; empty when there is enough."""
    disk = os.statvfs(directory)
    free, least = disk.f_bavail * disk.f_frsize, min(_DISK_MIN, int(disk.f_blocks * disk.f_frsize * _DISK_SHARE * 2))
    if free >= least:
        return ""
    return f"disk: {free // 1024**2} MiB free at {directory}, at least {least // 1024**2} MiB wanted"


def memory_shortage() -> str:
    """Says how little memory is available; empty when there is enough."""
    info = _meminfo()
    least = min(_MEMORY_MIN, int(info["MemTotal"] * _MEMORY_SHARE))
    if info["MemAvailable"] >= least:
        return ""
    return f"memory: {info['MemAvailable'] // 1024**2} MiB available, at least {least // 1024**2} MiB wanted"


def _meminfo() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {fields[0].rstrip(":"): int(fields[1]) * 1024 for fields in lines}
