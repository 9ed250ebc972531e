"""What an installation can be told, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DOMAIN = re.compile(r"([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)*[a-z0-9]([-a-z0-9]*[a-z0-9])?(:[0-9]{1,5})?")


@dataclass(frozen=True, kw_only=True)
class InstallOptions:
    """Values of one rendering. Raises ``ValueError`` naming the flag and what it expects."""

    image: str
    """The image of ``appliance image build``, as nodes pull or have it."""
    domain: str | None = None
    """E2B domain returned to clients."""
    api_key_secret: str = "appliance-api-key"
    """Secret in the system namespace whose ``api-key`` is the first API key."""
    tls_secret: str | None = None
    """kubernetes.io/tls Secret there; None: plain HTTP, for a proxy in front."""
    managers: int = 2
    controllers: int = 2
    sandbox_namespaces: tuple[str, ...] = ("default",)
    """Namespaces of pools, whose sandboxes get a NetworkPolicy."""

    def __post_init__(self) -> None:
        """Check every field."""
        if not self.image or any(character.isspace() for character in self.image):
            raise ValueError(f"--image: expected an image reference, got {self.image!r}")
        if self.domain is not None and not _DOMAIN.fullmatch(self.domain):
            raise ValueError(f"--domain: expected a DNS name, got {self.domain!r}")
        for flag, count in (("--managers", self.managers), ("--controllers", self.controllers)):
            if not 1 <= count <= 100:
                raise ValueError(f"{flag}: expected 1 to 100 replicas, got {count}")
        names = {"--api-key-secret": [self.api_key_secret], "--tls-secret": [self.tls_secret or "x"]}
        for flag, values in {**names, "--sandbox-namespace": list(self.sandbox_namespaces)}.items():
            for value in values:
                if not _LABEL.fullmatch(value):
                    raise ValueError(f"{flag}: expected a Kubernetes name, got {value!r}")
