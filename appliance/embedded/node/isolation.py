"""From a container of a manifest to the ``Spawn`` request: root, limits, network, command. What the box offers, decided
once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from appliance.config import NodeSettings
from appliance.embedded.node import disk, images, skeleton, unisolated
from appliance.embedded.node.cgroups import Group, Hierarchy, Limits
from appliance.embedded.node.environment import expand
from appliance.embedded.node.network import EVENTS, EVENTS_HOST, EVENTS_PORT, PodNetwork
from appliance.embedded.node.podspec import Container, PodSpec
from appliance.embedded.node.records import Record
from appliance.embedded.node.request import Command, Mount, Root, Spawn
from appliance.embedded.node.userns import SIZE

SLOTS = 2048
"""Pods of one node; with 16 nodes on a box their id ranges still fit below 2**32."""


@dataclass(frozen=True)
class Isolation:
    """The box's means. ``hierarchy`` and ``network`` are None without isolation."""

    settings: NodeSettings
    skeleton: Path
    hierarchy: Hierarchy | None
    network: PodNetwork | None
    loops: bool
    library: images.Library

    @property
    def isolated(self) -> bool:
        """Whether containers get namespaces at all."""
        return self.network is not None

    def ip(self, slot: int) -> str:
        """A pod's address."""
        if self.network is None:
            return str(IPv4Address("127.213.0.16") + slot)
        return str(self.network.cidr[slot + 16])

    def group(self, uid: str, container: str) -> Group | None:
        """The container's control groups, whether they exist or not."""
        return None if self.hierarchy is None else self.hierarchy.group(f"{uid}.{container}")

    def owner(self, slot: int) -> int:
        """Host uid of root inside."""
        number = 0 if self.network is None else self.network.number
        return self.settings.uid_base + (number * SLOTS + slot) * SIZE if self.isolated else 0

    def prepare(self, spec: PodSpec, directory: Path, container: Container) -> None:
        """Control groups and the writable image. Blocking; raises ``OSError``."""
        group = self.group(spec.uid, container.name)
        if group is not None:
            group.clear()
            group.create(self._limits(container))
        if self.isolated and self.loops:
            image = directory / "layer.ext4"
            if not image.exists():
                empty = disk.template(self.settings.data_dir / "node" / "images", spec.disk(self.settings.disk_default))
                fresh = directory / ".layer.new"
                fresh.unlink(missing_ok=True)
                disk.copy_sparse(empty, fresh)
                fresh.rename(image)

    def _limits(self, container: Container) -> Limits:
        return Limits(container.cpu, container.cpu_request, container.memory, self.settings.pids_default)

    def resize(self, spec: PodSpec, container: Container) -> None:
        """Give a running container other limits. Blocking; raises ``OSError`` saying why it cannot be."""
        group = self.group(spec.uid, container.name)
        if group is None:
            raise OSError(95, "this node runs without control groups: it enforces no limits")
        group.change(self._limits(container))

    def lacks(self, image: str) -> str:
        """Why a container cannot run that very image here; empty when it can."""
        if not self.isolated:
            return "this node runs without isolation and has no images but the box itself"
        if self.library.resolve(image) is None:
            return "it is not loaded on this node: load its archive with 'appliance image load ARCHIVE'"
        return ""

    def spawn(
        self, spec: PodSpec, container: Container, record: Record, *, env: dict[str, str], mounts: tuple[Mount, ...],
        exit_file: Path, join: int, resolv: str, layer: int = 0,
    ) -> Spawn:  # fmt: skip
        """The request to the template. ``layer``: how often the container's image was changed."""
        image = self.library.resolve(container.image) if self.isolated else None
        group = self.group(spec.uid, container.name)
        surroundings = self.surroundings(spec, image) | env
        runtime: dict[str, str | int | bool] | None = None
        if container.wants_runtime:
            runtime = {"path": surroundings["PATH"], "events_port": EVENTS_PORT}
            if not self.isolated:
                runtime |= {"host": self.ip(record.slot), **unisolated.account(exit_file.parent)}
            else:
                runtime["events_address"] = f"http://{EVENTS}"
        return Spawn(
            pod=spec.uid,
            container=container.name,
            hostname=spec.hostname,
            exit_file=str(exit_file),
            cgroups=group.paths if group else {},
            unified=group.unified if group else False,
            uid_start=self.owner(record.slot),
            root=self._root(spec, container, record, image, mounts, resolv, layer),
            network=self.network.pod(record.slot, record.generation) if self.network and not join else None,
            join=join if self.isolated else 0,
            runtime=runtime,
            main=self.command(container, image, surroundings),
            env=surroundings,
        )

    def surroundings(self, spec: PodSpec, image: images.Image | None) -> dict[str, str]:
        """Environment of every program, before the manifest's own."""
        path = skeleton.PATH if self.isolated else os.environ.get("PATH", "/usr/bin:/bin")
        env = {"PATH": path, "HOME": "/root" if self.isolated else str(Path.home()), "LANG": "C.UTF-8"}
        return env | {"HOSTNAME": spec.hostname, "E2B_SANDBOX": "true"} | (dict(image.env) if image else {})

    def command(self, container: Container, image: images.Image | None, env: dict[str, str]) -> Command | None:
        """What the container runs beside the runtime, None: nothing. An image's own start program counts."""
        raw = container.raw
        command = [expand(str(part), env) for part in raw.get("command") or []]
        arguments = [expand(str(part), env) for part in raw.get("args") or []]
        if not command and image is not None:
            command = list(image.entrypoint)
            arguments = arguments or list(image.command)
        argv = (*command, *arguments)
        if not argv:
            return None
        security = raw.get("securityContext") or {}
        uid = security.get("runAsUser")
        user = (image.user or None) if image is not None and uid is None else None
        cwd = str(raw.get("workingDir") or (image.cwd if image is not None else "") or "/")
        return Command(argv, env, cwd, user, uid, security.get("runAsGroup"))

    def _root(
        self, spec: PodSpec, container: Container, record: Record, image: images.Image | None,
        mounts: tuple[Mount, ...], resolv: str, layer: int,
    ) -> Root | None:  # fmt: skip
        if not self.isolated:
            return None
        directory = self.settings.data_dir / "node" / "pods" / spec.uid
        hosts = f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n{self.ip(record.slot)}\t{spec.hostname}\n"
        hosts += f"{EVENTS}\t{EVENTS_HOST}\n"
        files = {"/etc/hosts": hosts, "/etc/hostname": f"{spec.hostname}\n", "/etc/resolv.conf": resolv}
        return Root(
            lowers=image.layers if image else (str(self.skeleton),),
            box_directories=() if image else skeleton.box_directories(),
            image=str(directory / "layer.ext4") if self.loops else None,
            directory=str(directory / "layer"),
            layer=layer_name(container.name, layer),
            stale=layer_name(container.name, layer - 1) if layer else "",
            files=files,
            mounts=mounts,
            appliance=image is None or container.wants_runtime,
            boot_id=record.boot_id,
        )


def layer_name(container: str, number: int) -> str:
    """Directory of a container's writable layer after ``number`` changes of its image."""
    return f"{container}@{number}" if number else container
