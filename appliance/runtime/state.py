"""What ``/init`` told the runtime: token, environment, default user and directory.

One ``RuntimeState`` is shared by the envd and the interpreter application. It outlives a crash of the server process:
after each change the server hands ``snapshot()`` to the supervisor, and the next server process gets it back through
``restore()``. No I/O here; the token is compared in constant time and never appears in a repr.
"""

from __future__ import annotations

import hmac
from typing import Final, Protocol

import msgspec

from appliance.runtime.seal import digest
from appliance.runtime.settings import RuntimeSettings


class SupervisorChannel(Protocol):
    """The part of the supervisor's channel that the envd side uses."""

    def save_state(self, state: bytes) -> None:
        """Remember ``state`` for the next server process; must not block."""


class _Snapshot(msgspec.Struct):
    """The saved form; fields only ever gain defaults, so that any server reads any snapshot."""

    access_token: str | None = None
    default_user: str | None = None
    default_workdir: str | None = None
    user_env: dict[str, str] = msgspec.field(default_factory=dict)
    last_init: int | None = None
    lifecycle_id: str | None = None
    stopped: list[tuple[int, int]] = msgspec.field(default_factory=list)
    trust_env: dict[str, str] = msgspec.field(default_factory=dict)


class RuntimeState:
    """Mutable state of one sandbox's runtime. Single-threaded: touched only from the event loop."""

    def __init__(self, settings: RuntimeSettings) -> None:
        self.access_token: str | None = settings.access_token
        self.sealed: str | None = None
        """Digest of the token that opens a runtime started again (``seal.py``); None: open, or initialised."""
        self.default_user: str | None = settings.default_user
        self.default_workdir: str | None = settings.default_workdir
        self.system_env: Final[dict[str, str]] = dict(settings.system_env)
        """Fixed by the time anything is served."""
        self.user_env: dict[str, str] = {}
        self.last_init: int | None = None
        """Nanoseconds since 1970 of the newest ``/init`` that carried a timestamp."""
        self.lifecycle_id: str | None = None
        self.trust_env: dict[str, str] = {}
        """By which programs find an authority that ``/init`` brought (``trust.py``)."""
        self.stopped: list[tuple[int, int]] = []
        """(pid, start time) of the processes that ``/freeze`` stopped and ``/unfreeze`` will continue."""

    @property
    def env(self) -> dict[str, str]:
        """Global variables: the system's, then the user's from ``/init``; a fresh dict."""
        return {**self.trust_env, **self.system_env, **self.user_env}

    def token_matches(self, presented: str | None) -> bool:
        """Whether ``presented`` is the access token, compared in constant time. False when no token is set."""
        if self.sealed is not None and presented is not None:
            return hmac.compare_digest(self.sealed, digest(presented))
        if self.access_token is None or presented is None:
            return False
        return hmac.compare_digest(self.access_token.encode(), presented.encode("utf-8", "surrogateescape"))

    def snapshot(self) -> bytes:
        """The state as bytes for the supervisor. Contains the token: never log it."""
        return msgspec.json.encode(
            _Snapshot(
                access_token=self.access_token,
                default_user=self.default_user,
                default_workdir=self.default_workdir,
                user_env=self.user_env,
                last_init=self.last_init,
                lifecycle_id=self.lifecycle_id,
                stopped=self.stopped,
                trust_env=self.trust_env,
            )
        )

    def restore(self, saved: bytes) -> None:
        """Take over a ``snapshot()``. Raises ``msgspec.DecodeError`` when the bytes are not one."""
        old = msgspec.json.decode(saved, type=_Snapshot)
        self.access_token = old.access_token
        self.default_user = old.default_user
        self.default_workdir = old.default_workdir
        self.user_env = old.user_env
        self.last_init = old.last_init
        self.lifecycle_id = old.lifecycle_id
        self.stopped = old.stopped
        self.trust_env = old.trust_env
