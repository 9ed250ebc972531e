"""A container's environment and volumes from the manifest: values, references, config maps, secrets, claims."""

from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path
from typing import Any

from appliance.embedded.node.apiclient import ApiClient, ApiRefused
from appliance.embedded.node.podspec import BadSpec, Container, PodSpec, quantity
from appliance.embedded.node.request import Mount

Json = dict[str, Any]
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.-][\w.-]*)\)")
_KEY = re.compile(r"^(metadata\.(?:labels|annotations))\['([^']+)'\]$")


class NotYet(Exception):
    """Something the pod needs does not exist (yet); the text names it."""


class Resolver:
    """Reads what one pod refers to. ``directory``: where its volumes' files are written; ``claims``: the box's PVCs."""

    def __init__(self, api: ApiClient, pod: Json, spec: PodSpec, directory: Path, claims: Path) -> None:
        self._api = api
        self._pod = pod
        self._spec = spec
        self._directory = directory
        self._claims = claims

    async def environment(self, container: Container, ip: str, host_ip: str) -> dict[str, str]:
        """Raises ``NotYet`` and ``BadSpec``."""
        env: dict[str, str] = {}
        for source in container.raw.get("envFrom") or []:
            env |= await self._env_from(source)
        for entry in container.raw.get("env") or []:
            name = str(entry["name"])
            if "valueFrom" in entry:
                value = await self._value_from(entry["valueFrom"], container, ip, host_ip)
                if value is not None:
                    env[name] = value
            else:
                env[name] = expand(str(entry.get("value") or ""), env)
        return env

    async def _env_from(self, source: Json) -> dict[str, str]:
        kind = "configMapRef" if "configMapRef" in source else "secretRef"
        reference = source[kind]
        data = await self._data(kind.removesuffix("Ref"), reference["name"], bool(reference.get("optional")))
        prefix = str(source.get("prefix") or "")
        return {prefix + key: value.decode(errors="replace") for key, value in data.items()}

    async def _value_from(self, source: Json, container: Container, ip: str, host_ip: str) -> str | None:
        if "fieldRef" in source:
            return self._field(str(source["fieldRef"]["fieldPath"]), ip, host_ip)
        if "resourceFieldRef" in source:
            return self._resource(source["resourceFieldRef"], container)
        kind = "configMapKeyRef" if "configMapKeyRef" in source else "secretKeyRef"
        reference = source[kind]
        optional = bool(reference.get("optional"))
        data = await self._data(kind.removesuffix("KeyRef"), reference["name"], optional)
        if reference["key"] not in data and not optional:
            raise NotYet(f"{kind.removesuffix('KeyRef')} {reference['name']} has no key {reference['key']}")
        value = data.get(reference["key"])
        return None if value is None else value.decode(errors="replace")

    def _field(self, path: str, ip: str, host_ip: str) -> str:
        meta = self._pod["metadata"]
        if match := _KEY.match(path):
            return str((meta.get(match[1].removeprefix("metadata.")) or {}).get(match[2], ""))
        values = {
            "metadata.name": meta["name"],
            "metadata.namespace": meta["namespace"],
            "metadata.uid": meta["uid"],
            "spec.nodeName": self._pod["spec"].get("nodeName", ""),
            "spec.serviceAccountName": self._pod["spec"].get("serviceAccountName") or "default",
            "status.podIP": ip,
            "status.podIPs": ip,
            "status.hostIP": host_ip,
        }
        if path not in values:
            raise BadSpec(f"env.valueFrom.fieldRef.fieldPath: {path!r} is not one of {', '.join(values)}")
        return str(values[path])

    @staticmethod
    def _resource(reference: Json, container: Container) -> str:
        kind, _, name = str(reference["resource"]).partition(".")
        value = ((container.raw.get("resources") or {}).get(kind) or {}).get(name)
        divisor = quantity(reference.get("divisor") or "1", "resourceFieldRef.divisor") or 1.0
        amount = 0.0 if value is None else quantity(value, f"resources.{kind}.{name}")
        return str(-int(-amount // divisor))

    async def _data(self, kind: str, name: str, optional: bool) -> dict[str, bytes]:
        plural = "configmaps" if kind == "configMap" else "secrets"
        try:
            found = await self._api.call("GET", f"/api/v1/namespaces/{self._spec.namespace}/{plural}/{name}")
        except ApiRefused as error:
            if error.status == 404 and optional:
                return {}
            raise NotYet(f"{kind} {name}: {error}") from None
        data = found.get("data") or {}
        if kind == "secret":
            return {key: base64.b64decode(value) for key, value in data.items()}
        plain = {key: str(value).encode() for key, value in data.items()}
        return plain | {k: base64.b64decode(v) for k, v in (found.get("binaryData") or {}).items()}

    async def mounts(self, container: Container) -> tuple[Mount, ...]:
        """The container's volume mounts, with their files written. Raises ``NotYet`` and ``BadSpec``."""
        found = []
        for entry in container.raw.get("volumeMounts") or []:
            volume = self._spec.volumes.get(str(entry["name"]))
            if volume is None:
                raise BadSpec(f"volumeMounts: no volume is named {entry['name']!r}")
            found.append(await self._mount(volume, entry))
        return tuple(sorted(found, key=lambda mount: mount.target.count("/")))

    async def _mount(self, volume: Json, entry: Json) -> Mount:
        target, read_only = str(entry["mountPath"]), bool(entry.get("readOnly"))
        name, below = str(volume["name"]), str(entry.get("subPath") or "")
        if ".." in below.split("/") or ".." in target.split("/") or not target.startswith("/"):
            raise BadSpec(f"volumeMounts[{name}]: mountPath must be absolute, and neither path may hold '..'")
        if "emptyDir" in volume:
            options = volume["emptyDir"] or {}
            if options.get("medium") == "Memory":
                size = int(quantity(options.get("sizeLimit") or "64Mi", f"volumes[{name}].emptyDir.sizeLimit"))
                return Mount("", target, tmpfs=size)
            return Mount(f"volumes/{name}/{below}".rstrip("/"), target, read_only, on_disk=True)
        if "persistentVolumeClaim" in volume:
            claim = str(volume["persistentVolumeClaim"]["claimName"])
            await self._bind(claim)
            directory = self._claims / self._spec.namespace / claim / below
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o1777)
            return Mount(str(directory), target, read_only, idmap=True)
        for kind, key in (("configMap", "name"), ("secret", "secretName")):
            if kind in volume:
                directory = await self._files(kind, key, volume)
                return Mount(str(directory / below).rstrip("/"), target, True, idmap=True)
        raise BadSpec(f"volumes[{name}]: this node offers emptyDir, configMap, secret and persistentVolumeClaim")

    async def _bind(self, claim: str) -> None:
        """Mark a claim as bound: its directory is there at once. Raises ``NotYet`` for one that does not exist."""
        path = f"/api/v1/namespaces/{self._spec.namespace}/persistentvolumeclaims/{claim}"
        try:
            found = await self._api.call("GET", path)
            if (found.get("status") or {}).get("phase") == "Bound":
                return
            spec = found.get("spec") or {}
            capacity = (spec.get("resources") or {}).get("requests") or {}
            status = {"phase": "Bound", "accessModes": spec.get("accessModes") or [], "capacity": capacity}
            await self._api.call("PATCH", f"{path}/status", {"status": status}, content="application/merge-patch+json")
        except ApiRefused as error:
            raise NotYet(f"persistentVolumeClaim {claim}: {error}") from None

    async def _files(self, kind: str, key: str, volume: Json) -> Path:
        source = volume[kind]
        data = await self._data(kind, str(source[key]), bool(source.get("optional")))
        directory = self._directory / str(volume["name"])
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        chosen = source.get("items") or [{"key": name, "path": name} for name in data]
        for item in chosen:
            if item["key"] not in data:
                raise NotYet(f"{kind} {source[key]} has no key {item['key']}")
            path = directory / str(item["path"])
            if ".." in path.parts:
                raise BadSpec(f"volumes[{volume['name']}].{kind}.items: path {item['path']!r} holds '..'")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data[item["key"]])
            path.chmod(int(item.get("mode") or source.get("defaultMode") or 0o644))
        return directory


def expand(text: str, env: dict[str, str]) -> str:
    """``$(NAME)`` from ``env``; unknown ones stay, ``$$`` is a dollar."""

    def replace(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else env.get(match[1], match[0])

    return _REFERENCE.sub(replace, text)
