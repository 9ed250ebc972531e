"""API keys in the Secret ``e2b-key-store``: one entry per key id, holding a hash, never the key.

Beside them, one entry for each team that is blocked or banned (``standing.py``).

Reads come from an informer, so every replica knows a key made or deleted elsewhere within a watch event. Writes are
merge patches of one entry each: replicas cannot overwrite each other's keys. A key is found by its SHA-256; since the
key itself carries 160 random bits, the time a look-up takes tells an attacker nothing usable, and the final
comparison is constant-time anyway.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from appliance.api import times
from appliance.api.corestructs import Secret
from appliance.api.ids import hash_api_key, new_api_key
from appliance.api.kinds import SECRET
from appliance.api.labels import KEY_STORE_SECRET, SYSTEM_NAMESPACE
from appliance.kube.cluster import Cluster
from appliance.kube.errors import AlreadyExists, NotFound
from appliance.kube.informer import Informer
from appliance.manager.keys import compat, standing
from appliance.manager.keys.model import ApiKey
from appliance.manager.keys.standing import OPEN, Standing
from appliance.manager.system import ensure_namespace

logger = logging.getLogger(__name__)
_IDS = uuid.UUID("5e0cf6a4-6f5a-5b5e-9f0c-8f2f5d0a7a31")
"""Namespace of the ids of keys taken from a file: every replica derives the same id from the same key."""


class KeyStore:
    """The keys of the cluster. ``secrets`` must cover the system namespace."""

    def __init__(self, cluster: Cluster, secrets: Informer[Secret], now: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self._secrets = secrets
        self._now = now
        self._by_hash: dict[str, ApiKey] = {}
        self._standings: dict[str, Standing] = {}
        self._load(secrets.get(SYSTEM_NAMESPACE, KEY_STORE_SECRET))
        secrets.subscribe(self._changed)

    def authenticate(self, presented: str) -> ApiKey | None:
        """The key record of a presented key; None when there is none."""
        digest = hash_api_key(compat.decode(presented))
        found = self._by_hash.get(digest)
        return found if found is not None and hmac.compare_digest(found.hash, digest) else None

    def visible(self, key: ApiKey) -> list[ApiKey]:
        """The keys that ``key`` may list: its team's, or all for an admin; oldest first."""
        mine = [one for one in self._by_hash.values() if key.admin or one.team == key.team]
        return sorted(mine, key=lambda one: (one.created_at, one.id))

    def standing(self, team: str) -> Standing:
        """Whether the team may use the API."""
        return self._standings.get(team, OPEN)

    async def set_standing(self, team: str, new: Standing) -> None:
        """Block, ban or open a team; true here at once. Raises KubeError."""
        await self._write({standing.entry_name(team): standing.encode(new)})

    def admins(self) -> int:
        """How many admin keys there are."""
        return sum(one.admin for one in self._by_hash.values())

    async def create(self, name: str, team: str, *, admin: bool = False) -> tuple[ApiKey, str]:
        """Make a key; returns its record and the key itself, which is nowhere kept. Raises KubeError."""
        text = new_api_key()
        key = self._record(str(uuid.uuid4()), name, team, text, admin=admin)
        await self._write({key.id: _encode(key)})
        return key, text

    async def rename(self, key: ApiKey, name: str) -> ApiKey:
        """Give a key another name. Raises KubeError."""
        renamed = msgspec.structs.replace(key, name=name)
        await self._write({key.id: _encode(renamed)})
        return renamed

    async def delete(self, key_id: str) -> None:
        """Remove a key; it stops working here at once. Raises KubeError."""
        await self._write({key_id: None})

    async def adopt(self, file: Path, *, name: str, team: str) -> None:
        """Make the key in ``file`` an admin key of ``team``, unless it is known.

        Raises:
            ValueError: the file holds no usable key (the message names the file, not its content).
            OSError, KubeError
        """
        text = file.read_text(encoding="utf-8").strip()
        if len(text) < 8 or not text.isprintable() or " " in text:
            raise ValueError(f"initial_key_file: {file}: expected one API key of at least 8 characters")
        if self.authenticate(text) is None:
            digest = hash_api_key(text)
            key = self._record(str(uuid.uuid5(_IDS, digest)), name, team, text, admin=True)
            await self._write({key.id: _encode(key)})

    def _record(self, key_id: str, name: str, team: str, text: str, *, admin: bool) -> ApiKey:
        created = times.format(self._now(), micro=True)
        return ApiKey(key_id, name, team, hash_api_key(text), created, admin=admin, hint=text[-4:])

    async def _write(self, entries: dict[str, str | None]) -> None:
        """Merge entries into the Secret, making it when it is missing."""
        try:
            secret = await self._cluster.patch(SECRET, SYSTEM_NAMESPACE, KEY_STORE_SECRET, {"data": entries})
        except NotFound:
            secret = await self._create(entries)
        self._secrets.observe(secret)

    async def _create(self, entries: dict[str, str | None]) -> Secret:
        await ensure_namespace(self._cluster, SYSTEM_NAMESPACE)
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": KEY_STORE_SECRET, "namespace": SYSTEM_NAMESPACE},
            "type": "Opaque",
            "data": {name: value for name, value in entries.items() if value is not None},
        }
        try:
            return await self._cluster.create(SECRET, SYSTEM_NAMESPACE, body)
        except AlreadyExists:
            return await self._cluster.patch(SECRET, SYSTEM_NAMESPACE, KEY_STORE_SECRET, {"data": entries})

    def _changed(self, old: Secret | None, new: Secret | None) -> None:
        seen = new or old
        if seen is not None and seen.key == (SYSTEM_NAMESPACE, KEY_STORE_SECRET):
            self._load(new)

    def _load(self, secret: Secret | None) -> None:
        entries = secret.data if secret else {}
        teams = {name: value for name, value in entries.items() if name.startswith(standing.PREFIX)}
        keys = (_decode(name, value) for name, value in entries.items() if name not in teams)
        self._by_hash = {key.hash: key for key in keys if key is not None}
        self._standings = {name.removeprefix(standing.PREFIX): _standing(name, text) for name, text in teams.items()}


def _encode(key: ApiKey) -> str:
    return base64.b64encode(msgspec.json.encode(key)).decode()


def _decode(name: str, value: str) -> ApiKey | None:
    try:
        key = msgspec.json.decode(base64.b64decode(value, validate=True), type=ApiKey)
    except (msgspec.DecodeError, binascii.Error):
        logger.warning("Secret %s: entry %s is not an API key record, ignored", KEY_STORE_SECRET, name)
        return None
    return key if key.id == name else None


def _standing(name: str, value: str) -> Standing:
    found = standing.decode(value)
    if found is None:
        logger.warning("Secret %s: entry %s is not a team's standing: the team is banned", KEY_STORE_SECRET, name)
    return found or Standing(banned=True)
