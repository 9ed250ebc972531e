"""What a sandbox may reach: two lists of IPv4 networks, as the annotation ``EGRESS`` of Sandbox and Pod.

Allowing beats denying; what neither names is allowed. The label ``ALLOW_INTERNET`` set to ``false`` denies everything
besides. The node answers with the condition ``CONDITION_NETWORK``, whose reason names the policy it enforces, so that
a change can be waited for. An annotation that cannot be read denies everything: nothing opens by a mistake.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from ipaddress import IPv4Network

import msgspec

from appliance.api import labels

EVERYTHING = "0.0.0.0/0"


class Egress(msgspec.Struct, frozen=True, omit_defaults=True):
    """Networks in CIDR notation."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is denied."""
        return bool(self.deny)


OPEN = Egress()
CLOSED = Egress(deny=(EVERYTHING,))


def encode(egress: Egress) -> str:
    """The annotation's value."""
    return msgspec.json.encode(egress).decode()


def egress_of(own_labels: Mapping[str, str], annotations: Mapping[str, str]) -> Egress:
    """The policy of a Sandbox or Pod with these labels and annotations."""
    found = _decode(annotations.get(labels.EGRESS))
    if own_labels.get(labels.ALLOW_INTERNET) == "false" and EVERYTHING not in found.deny:
        return Egress(found.allow, (*found.deny, EVERYTHING))
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
    return found
