"""Which sandbox may reach what: decisions of the filter, pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from appliance.api.egress import PRIVATE, Egress, admits
from appliance.api.header_rules import HeaderRules
from appliance.embedded.filter.minting import Mint

_CLOSED = tuple(map(IPv4Network, (*PRIVATE, "0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3")))
"""Never connected to for a sandbox, whatever a name resolves to: private, this machine, multicast, reserved."""


def reachable(addresses: Iterable[IPv4Address]) -> tuple[IPv4Address, ...]:
    """Those that a sandbox may be connected to at all."""
    return tuple(one for one in addresses if not any(one in network for network in _CLOSED))


@dataclass(frozen=True)
class Ruling:
    """What requests to one host get, and as whom the filter answers for it."""

    headers: Mapping[str, str]
    mint: Mint


@dataclass(frozen=True)
class _Policy:
    egress: Egress
    rules: HeaderRules | None
    rulings: Mapping[str, Ruling]


class Policies:
    """Address of a sandbox → its policy; a sandbox without one is refused everything."""

    def __init__(self) -> None:
        self._known: dict[str, _Policy] = {}

    @property
    def addresses(self) -> list[str]:
        """The sandboxes that are known."""
        return sorted(self._known)

    def set(self, sandbox: str, egress: Egress | None, rules: HeaderRules | None = None) -> None:
        """Put a policy in force, or forget the sandbox. Raises ``ValueError`` for an authority that is none."""
        if egress is None:
            self._known.pop(sandbox, None)
            return
        known = self._known.get(sandbox)
        rulings = known.rulings if known is not None and known.rules == rules else _rulings(rules)
        self._known[sandbox] = _Policy(egress, rules, rulings)

    def known(self, sandbox: str) -> bool:
        """Whether the sandbox has a policy."""
        return sandbox in self._known

    def ruling(self, sandbox: str, name: str) -> Ruling | None:
        """The rule for requests to the server of that name; it allows nothing."""
        policy = self._known.get(sandbox)
        return policy.rulings.get(name) if policy is not None else None

    def admits(self, sandbox: str, name: str) -> bool:
        """Whether a new connection to the server of that name is allowed, wherever it is.

        A sandbox without domain rules gets here only with what the kernel led here while it still had some.
        """
        policy = self._known.get(sandbox)
        return policy is not None and (admits(policy.egress.domains, name) or not policy.egress)

    def reaches(self, sandbox: str, address: IPv4Address) -> bool:
        """Whether the address rules alone allow a connection."""
        policy = self._known.get(sandbox)
        if policy is None or any(address in network for network in _CLOSED):
            return False
        return _within(policy.egress.allow, address) or not _within(policy.egress.deny, address)

    def keeps(self, sandbox: str, name: str, address: IPv4Address | None) -> bool:
        """Whether an existing connection may go on: for its name, or by the address rules. ``address`` None: no yet."""
        policy = self._known.get(sandbox)
        if policy is None:
            return False
        if self.admits(sandbox, name):
            return True
        egress = policy.egress
        if address is None or egress.domains:
            return address is not None and _within(egress.allow, address)
        return _within(egress.allow, address) or not _within(egress.deny, address)


def _rulings(rules: HeaderRules | None) -> dict[str, Ruling]:
    if rules is None or not (headers := rules.headers):
        return {}
    mint = Mint(rules.authority)
    return {host: Ruling(own, mint) for host, own in headers.items()}


def _within(networks: Iterable[str], address: IPv4Address) -> bool:
    return any(address in IPv4Network(one) for one in networks)
