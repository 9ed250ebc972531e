"""``HOST:PORT`` and ``NAME[:PORT]``, parsed in one place with one set of bounds.

Listening addresses of every role and the domain of the box come from flags, variables and files of other roles. What
is not usable is refused with the name of the setting and an example, before anything is started.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address

MAX_PORT = 65535
MAX_DOMAIN = 253 - len("65535-i00000000000000000000.")
"""Bytes of a domain below which every ``PORT-ID.DOMAIN`` is still a name (RFC 1035 §2.3.4: 253)."""

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


@dataclass(frozen=True)
class Address:
    """Where something listens. ``host`` None: every address of the machine; IPv6 without its brackets."""

    host: str | None
    port: int

    def __str__(self) -> str:
        """The text that ``parse_address`` reads."""
        return join(self.host or "*", self.port)

    @property
    def everywhere(self) -> bool:
        """Whether it is every address of the machine."""
        return self.host in (None, "0.0.0.0", "::")

    @property
    def local(self) -> str:
        """HOST:PORT by which a client on this machine reaches it."""
        if self.everywhere:
            return join("::1" if self.host == "::" else "127.0.0.1", self.port)
        return join(self.host or "", self.port)


def join(host: str, port: int) -> str:
    """``HOST:PORT``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str, setting: str) -> Address:
    """``HOST:PORT``; ``[::1]:80`` is IPv6; an empty host or ``*`` is every address; port 0 is any that is free.

    Raises:
        ValueError: naming ``setting``, for example ``--listen``.
    """
    host, colon, port = text.rpartition(":")
    number = parse_port(port)
    if host.startswith("[") and host.endswith("]"):
        host = _ipv6(host[1:-1])
    elif ":" in host or "[" in host or "]" in host or any(one.isspace() for one in host):
        colon = ""
    if not colon or number is None or host == "[]":
        raise ValueError(f"{setting}: expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080, got {text!r}")
    return Address(None if host in ("", "*") else host, number)


def parse_port(text: str) -> int | None:
    """0 to 65535 in plain decimal digits, else None."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5) or int(text) > MAX_PORT:
        return None
    return int(text)


@dataclass(frozen=True)
class Domain:
    """``NAME[:PORT]``: sandboxes are ``PORT-ID.NAME``, reached on ``port`` (None: 443)."""

    name: str
    port: int | None = None

    def __str__(self) -> str:
        """What clients put into ``E2B_DOMAIN``."""
        return self.name if self.port in (None, 443) else f"{self.name}:{self.port}"


def parse_domain(text: str, setting: str) -> Domain:
    """``NAME`` or ``NAME:PORT``, lower-cased, without a final dot.

    Raises:
        ValueError: naming ``setting`` and what is wrong with it.
    """
    name, colon, port = text.strip().lower().partition(":")
    name = name.removesuffix(".")
    if colon and not parse_port(port):
        raise ValueError(f"{setting}: expected a port from 1 to {MAX_PORT} after {name!r}, got {port!r}")
    if name.startswith("*."):
        raise ValueError(f"{setting}: give the name without *. ({name[2:]}); the names below it are included anyway")
    why = _wrong_name(name)
    if why:
        raise ValueError(
            f"{setting}: expected NAME or NAME:PORT, such as sbx.test or sbx.test:8443, got {text!r}: {why}"
        )
    return Domain(name, int(port) if colon else None)


def _wrong_name(name: str) -> str:
    if not name:
        return "the name is empty"
    if _is_address(name):
        return "an IP address has no names below it"
    if len(name) > MAX_DOMAIN:
        return f"longer than {MAX_DOMAIN} characters"
    for label in name.split("."):
        if not _LABEL.fullmatch(label):
            return f"{label!r} is no part of a DNS name (letters, digits and hyphens, at most 63)"
    return ""


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _ipv6(text: str) -> str:
    """The address inside brackets; ``[]``, which nothing is, when it is none."""
    try:
        return text if ip_address(text).version == 6 else "[]"
    except ValueError:
        return "[]"
