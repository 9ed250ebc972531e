"""The ``network`` options of a create or an update: what can be honoured is, everything else is refused by name.

Honoured: outbound traffic by address and domain (``allowOut``, ``denyOut``, ``allow_internet_access``), name servers
asked beside domains (``dnsServers``), headers of requests to some hosts (``rules``), private user ports
(``allowPublicTraffic: false``), the ``Host`` that user ports see (``maskRequestHost``), and user ports that the gateway
dials with TLS (``httpsPorts``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from typing import Any

from appliance.api import labels
from appliance.api.address import parse_port
from appliance.api.egress import EVERYTHING, OPEN, PRIVATE, Egress, domain, encode
from appliance.api.header_rules import Rule, new_revision
from appliance.manager.bodies import NetworkConfig, NetworkUpdate
from appliance.manager.errors import Fault, invalid, unsupported
from appliance.manager.header_rules import check

MAX_ENTRIES = 1000
"""Entries of one list."""
MAX_DOMAINS = 32 * 1024
"""Characters of all domains together: they are kept in annotations, of which an object has 256 KiB."""

CREATE_ONLY = ("allowPublicTraffic", "maskRequestHost", "httpsPorts")
"""Members that an update leaves as they were."""

MAX_SERVERS = 10
"""Of ``dnsServers``."""
_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?)+(?::(?:[0-9]{1,5}|\$\{PORT\}))?")
_PUBLIC_NEEDS_SECURE = (
    "You cannot create a sandbox without public access unless you enable secure envd access via 'secure' flag."
)
_DOMAINS_NEED_DENY_ALL = (
    "When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in deny out "
    "to block all other traffic."
)


@dataclass(frozen=True)
class Network:
    """The network options that a sandbox is made with."""

    internet: bool = True
    """False: ``allow_internet_access: false``, which denies everything."""
    public: bool = True
    """False: user ports demand the traffic token."""
    mask_host: str | None = None
    https_ports: tuple[int, ...] = ()
    """User ports whose services speak TLS."""
    echo: dict[str, Any] | None = None
    """What GET returns as ``network``, without the rules; None: nothing was given."""
    egress: Egress = OPEN
    """The lists and the rules' revision, without what ``internet`` adds."""
    rules: Mapping[str, list[Rule]] = field(default_factory=dict)
    """Headers to set, by domain; their values are secret."""

    @property
    def labels(self) -> dict[str, str | None]:
        """Of the Sandbox; None removes."""
        return {labels.ALLOW_INTERNET: None if self.internet else "false"}

    @property
    def annotations(self) -> dict[str, str | None]:
        """Of the Sandbox; None removes."""
        return {labels.EGRESS: encode(self.egress) if self.egress != OPEN else None}


def plan(config: NetworkConfig | None, allow_internet_access: bool | None, *, secure: bool) -> Network:
    """Decide what to enforce.

    Raises:
        Fault: 400 naming the option that cannot be honoured.
    """
    internet = allow_internet_access is not False
    if config is None:
        return Network(internet=internet)
    rules = check("network.rules", config.rules or {})
    egress = _egress("network.", config, internet, new_revision() if rules else "")
    public = config.allow_public_traffic is not False
    if not public and not secure:
        raise Fault(400, _PUBLIC_NEEDS_SECURE)
    ports = _https_ports(config)
    return Network(internet, public, _mask(config), ports, echo=config.given(), egress=egress, rules=rules)


def replan(update: NetworkUpdate, *, internet: bool | None, echo: dict[str, Any] | None, revision: str = "") -> Network:
    """The options after ``PUT …/network``: the egress part is replaced, the rest of ``echo`` stays.

    ``internet`` is the setting that an update without ``allow_internet_access`` leaves, ``revision`` that of the rules.
    Raises Fault 400.
    """
    allowed = (internet if update.allow_internet_access is None else update.allow_internet_access) is not False
    egress = _egress("", update, allowed, revision)
    kept = {name: value for name, value in (echo or {}).items() if name in CREATE_ONLY}
    new = update.given()
    new.pop("allow_internet_access", None)
    return Network(internet=allowed, echo=(kept | new) or None, egress=egress)


def _egress(prefix: str, config: NetworkConfig | NetworkUpdate, internet: bool, revision: str) -> Egress:
    for option, value in config.unsupported():
        if value:
            raise unsupported(f"{prefix}{option}")
    deny = _denied(f"{prefix}denyOut", config.deny_out or ())
    closed = EVERYTHING in deny or not internet
    allow, domains = _allowed(f"{prefix}allowOut", config.allow_out or ())
    if domains and not closed:
        raise Fault(400, _DOMAINS_NEED_DENY_ALL)
    servers = _servers(f"{prefix}dnsServers", config.dns_servers)
    if servers is None or not domains:  # without domains nothing but the lists decides
        return Egress(tuple(allow), tuple(deny), tuple(dict.fromkeys(domains)), rules=revision)
    return Egress((*allow, *servers), tuple(deny), tuple(dict.fromkeys(domains)), dns=False, rules=revision)


def _servers(option: str, given: list[str] | None) -> list[str] | None:
    """Name servers as networks of one address; None: not given, the box answers for them."""
    if given is None:
        return None
    if len(given) > MAX_SERVERS:
        raise invalid(option, f"expected at most {MAX_SERVERS} entries, got {len(given)}")
    found = []
    for entry in given:
        try:
            address = IPv4Address(entry)
        except ValueError:
            raise invalid(option, f"expected an IPv4 address, got {entry[:80]!r}") from None
        if any(address in IPv4Network(one) for one in PRIVATE):
            raise unsupported(option, f"{entry}: private networks are closed to every sandbox")
        found.append(str(IPv4Network(address)))
    return found


def _denied(option: str, entries: Iterable[str]) -> list[str]:
    """IPv6 is off in sandboxes, so denying its networks is done already."""
    found = []
    for entry in _bounded(option, entries):
        network = _network(entry)
        if network is None:
            hint = "; domains can only be allowed" if domain(entry) else ""
            raise invalid(option, f"expected an IP address or a CIDR block, got {entry[:80]!r}{hint}")
        if isinstance(network, IPv4Network):
            found.append(str(network))
    return found


def _allowed(option: str, entries: Iterable[str]) -> tuple[list[str], list[str]]:
    """Networks and domains. Nothing is reached by IPv6, so allowing its networks cannot be honoured.

    Private networks may be named and stay closed, as contract §1.12 says and a test of the original asserts.
    """
    found, domains = [], []
    for entry in _bounded(option, entries):
        network = _network(entry)
        if network is None:
            domains.append(_domain(option, entry))
        elif isinstance(network, IPv6Network):
            raise unsupported(option, f"{entry}: sandboxes have no IPv6")
        else:
            found.append(str(network))
    if (size := sum(map(len, domains))) > MAX_DOMAINS:
        raise invalid(option, f"expected at most {MAX_DOMAINS} characters of domains, got {size}")
    return found, domains


def _domain(option: str, entry: str) -> str:
    found = domain(entry)
    if found is None:
        expected = "an IP address, a CIDR block or a domain (name, *.name or *; ASCII)"
        raise invalid(option, f"expected {expected}, got {entry[:80]!r}")
    return found


def _bounded(option: str, entries: Iterable[str]) -> list[str]:
    found = list(entries)
    if len(found) > MAX_ENTRIES:
        raise invalid(option, f"expected at most {MAX_ENTRIES} entries, got {len(found)}")
    return found


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _https_ports(config: NetworkConfig) -> tuple[int, ...]:
    ports = config.https_ports or ()
    if labels.PORT_ENVD in ports:
        raise invalid("network.httpsPorts", f"{labels.PORT_ENVD} is the runtime's own port, which speaks plain HTTP")
    if twice := {port for port in ports if ports.count(port) > 1}:
        raise invalid("network.httpsPorts", f"expected each port once, got {min(twice)} twice")
    return tuple(ports)


def _mask(config: NetworkConfig) -> str | None:
    mask = config.mask_request_host
    if mask is None:
        return None
    port = mask.rpartition(":")[2]
    if len(mask) > 253 or _HOST.fullmatch(mask) is None or (port.isdigit() and ":" in mask and not parse_port(port)):
        raise invalid("network.maskRequestHost", "expected a host name, with :PORT or :${PORT} if wanted")
    return mask
