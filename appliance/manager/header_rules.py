"""``network.rules``: headers that the owner wants set in requests to certain hosts, checked.

Limits and texts are the original's (contract §1.12). Refused beyond it: what would not take effect, or would take
another one than it says: names that differ in case only, and headers that frame a message or belong to one connection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from appliance.api.egress import domain
from appliance.api.header_rules import Rule, Transform, host_key
from appliance.manager.bodies import NetworkRule
from appliance.manager.errors import Fault, invalid, unsupported

MAX_DOMAINS, MAX_RULES, MAX_HEADERS = 10, 1, 20
"""Domains in all, rules of one domain, headers of one rule."""
MAX_DOMAIN, MAX_NAME, MAX_VALUE = 128, 64, 2048
"""Bytes of a domain, a header's name, a header's value."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_FRAMING = frozenset({
    "connection", "content-length", "expect", "host", "keep-alive", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
_IDENTITY = "${e2b.identity."
"""Begins the placeholder of a workload token, which the original's proxy would fill in."""


def check(option: str, given: Mapping[str, Sequence[NetworkRule]]) -> dict[str, list[Rule]]:
    """The rules as they are kept. ``option``: how messages of ours name them. Raises Fault 400; no text has a value."""
    if len(given) > MAX_DOMAINS:
        raise Fault(400, f"Network rules can have at most {MAX_DOMAINS} domains.")
    for host, rules in given.items():
        _check_domain(host)
        if len(rules) > MAX_RULES:
            raise Fault(400, f"Domain {_quoted(host)} can have at most {MAX_RULES} transform rule.")
        for rule in rules:
            _check_headers(option, host, _headers(rule))
    if len({host_key(host) for host in given}) < len(given):
        raise invalid(option, "expected each domain once, whatever its case")
    return {host: [_kept(rule) for rule in rules] for host, rules in given.items()}


def _headers(rule: NetworkRule) -> Mapping[str, str]:
    return rule.transform.headers or {} if rule.transform is not None else {}


def _kept(rule: NetworkRule) -> Rule:
    return Rule(None if rule.transform is None else Transform(rule.transform.headers))


def _check_domain(host: str) -> None:
    if not host:
        raise Fault(400, "Rule domain must not be empty.")
    if len(host.encode()) > MAX_DOMAIN:
        raise Fault(400, f"Rule domain {_quoted(host)} exceeds maximum length of {MAX_DOMAIN} characters.")
    if "*" in host or domain(host) is None:
        raise Fault(400, f"Rule domain {_quoted(host)} is not a valid domain name.")


def _check_headers(option: str, host: str, headers: Mapping[str, str]) -> None:
    where = f"in rule for domain {_quoted(host)}"
    if len(headers) > MAX_HEADERS:
        raise Fault(400, f"Domain {_quoted(host)} can have at most {MAX_HEADERS} headers per rule.")
    for name, value in headers.items():
        if not name:
            raise Fault(400, f"Header name {where} must not be empty.")
        if _TOKEN.fullmatch(name) is None:
            raise Fault(400, f"Header name {_quoted(name)} {where} must contain only valid HTTP token characters.")
        if len(name) > MAX_NAME:
            raise Fault(400, f"Header name {_quoted(name)} {where} exceeds maximum length of {MAX_NAME} characters.")
        if name.lower() in _FRAMING:
            raise unsupported(f"{option}.{host}: header {name}", "it belongs to the connection, not to the request")
        _check_value(option, name, value, where)
    if len({name.lower() for name in headers}) < len(headers):
        raise invalid(option, f"expected each header {where} once, whatever its case")


def _check_value(option: str, name: str, value: str, where: str) -> None:
    if _CONTROL.search(value) is not None:
        raise Fault(400, f"Value for header {_quoted(name)} {where} contains invalid characters.")
    if len(value.encode(errors="surrogatepass")) > MAX_VALUE:
        raise Fault(400, f"Value for header {_quoted(name)} {where} exceeds maximum length of {MAX_VALUE} characters.")
    if _IDENTITY in value:
        raise unsupported(f"{option}: a workload token in header {name} {where}")


def _quoted(text: str) -> str:
    """At most so much of it that a message stays one."""
    return f'"{text[:160]}"'
