"""What a sandbox may reach: networks and domains, as the annotation ``EGRESS`` of Sandbox and Pod.

Allowing beats denying; what nothing names is allowed. The label ``ALLOW_INTERNET`` set to ``false`` denies everything
besides. Domains open TCP ports 443 and 80 to servers that the box finds under these names; they come only with
everything else denied. Header rules open nothing: they change requests to hosts that may be reached anyway. The node
answers with the condition ``CONDITION_NETWORK``, whose reason names the policy it enforces, so that a change can be
waited for. An annotation that cannot be read denies everything: nothing opens by a mistake.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from ipaddress import IPv4Network

import msgspec

from appliance.api import labels
from appliance.api.header_rules import is_revision

EVERYTHING = "0.0.0.0/0"
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")
"""Closed to every sandbox, whatever its policy (contract §1.12); name servers of the box excepted, port 53."""
MAX_NAME = 253

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?!\d+$){_LABEL}")


class Egress(msgspec.Struct, frozen=True, omit_defaults=True):
    """Networks in CIDR notation, domains as ``domain`` returns them."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    """Allowed: a name, ``*.name`` for those below it, or ``*``; empty unless everything is denied."""
    dns: bool = True
    """With domains: the box answers questions for allowed names, whichever server is asked. False: it does not, only
    servers among ``allow`` can be asked."""
    rules: str = ""
    """Revision of the header rules (``header_rules.py``); empty: there are none."""

    def __bool__(self) -> bool:
        """Whether the node has anything to enforce."""
        return bool(self.deny or self.rules)


UNENFORCEABLE = "NotIsolated"
"""The condition's reason, with status False, where nothing can be kept from a pod that has a policy."""
OPEN = Egress()
CLOSED = Egress(deny=(EVERYTHING,))


def domain(text: str) -> str | None:
    """``x.y``, ``*.x.y`` or ``*`` as it is compared (lower case, no final dot); None for what is no domain."""
    found = "*" if text == "*" else text.lower().removesuffix(".")
    name = found.removeprefix("*.")
    if text == "*" or (len(name) <= MAX_NAME and _NAME.fullmatch(name)):
        return found
    return None


def admits(domains: tuple[str, ...], name: str) -> bool:
    """Whether one of ``domains`` covers ``name``: a name covers itself only, ``*.x`` everything below ``x``.

    An address is no name, so that not even ``*`` covers it. Names are compared without case and final dot.
    """
    wanted = name.lower().removesuffix(".")
    if len(wanted) > MAX_NAME or not _NAME.fullmatch(wanted):
        return False
    return any(one in ("*", wanted) or (one[:2] == "*." and wanted.endswith(one[1:])) for one in domains)


def encode(egress: Egress) -> str:
    """The annotation's value."""
    return msgspec.json.encode(egress).decode()


def egress_of(own_labels: Mapping[str, str], annotations: Mapping[str, str]) -> Egress:
    """The policy of a Sandbox or Pod with these labels and annotations."""
    found = _decode(annotations.get(labels.EGRESS))
    if own_labels.get(labels.ALLOW_INTERNET) == "false" and EVERYTHING not in found.deny:
        found = msgspec.structs.replace(found, deny=(*found.deny, EVERYTHING))
    if found.domains and EVERYTHING not in found.deny:
        return CLOSED
    return found


def reason(egress: Egress) -> str:
    """The condition's reason while this policy is in force."""
    if not egress:
        return "InternetAllowed"
    if egress == CLOSED:
        return "InternetDenied"
    return f"Egress{hashlib.sha256(msgspec.json.encode(egress)).hexdigest()[:16]}"


def _decode(text: str | None) -> Egress:
    if not text:
        return OPEN
    try:
        found = msgspec.json.decode(text, type=Egress)
        for one in (*found.allow, *found.deny):
            IPv4Network(one)
    except (msgspec.DecodeError, ValueError):
        return CLOSED
    if found.rules and not is_revision(found.rules):
        return CLOSED
    return found if all(domain(one) == one for one in found.domains) else CLOSED
