"""Which sandbox may reach what: decisions of the filter, pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from appliance.api.egress import PRIVATE, Egress, admits

_CLOSED = tuple(map(IPv4Network, (*PRIVATE, "0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3")))
"""Never connected to for a sandbox, whatever a name resolves to: private, this machine, multicast, reserved."""


def reachable(addresses: Iterable[IPv4Address]) -> tuple[IPv4Address, ...]:
    """Those that a sandbox may be connected to at all."""
    return tuple(one for one in addresses if not any(one in network for network in _CLOSED))


class Policies:
    """Address of a sandbox → its policy; a sandbox without one is refused everything."""

    def __init__(self) -> None:
        self._known: dict[str, Egress] = {}

    @property
    def addresses(self) -> list[str]:
        """The sandboxes that are known."""
        return sorted(self._known)

    def set(self, sandbox: str, egress: Egress | None) -> None:
        """Put a policy in force, or forget the sandbox."""
        if egress is None:
            self._known.pop(sandbox, None)
        else:
            self._known[sandbox] = egress

    def known(self, sandbox: str) -> bool:
        """Whether the sandbox has a policy."""
        return sandbox in self._known

    def admits(self, sandbox: str, name: str) -> bool:
        """Whether a new connection to the server of that name is allowed.

        A sandbox without domain rules gets here only with what the kernel led here while it still had some.
        """
        egress = self._known.get(sandbox)
        return egress is not None and (admits(egress.domains, name) or not egress)

    def keeps(self, sandbox: str, name: str, address: IPv4Address | None) -> bool:
        """Whether an existing connection may go on: for its name, or by the address rules. ``address`` None: no yet."""
        egress = self._known.get(sandbox)
        if egress is None:
            return False
        if self.admits(sandbox, name):
            return True
        if address is None or egress.domains:
            return address is not None and _within(egress.allow, address)
        return _within(egress.allow, address) or not _within(egress.deny, address)


def _within(networks: Iterable[str], address: IPv4Address) -> bool:
    return any(address in IPv4Network(one) for one in networks)
