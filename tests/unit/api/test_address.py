"""HOST:PORT and NAME[:PORT], with the same bounds for every role."""

import pytest

from appliance.api.address import Address, Domain, parse_address, parse_domain


@pytest.mark.parametrize(
    ("text", "host", "port", "local"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80, "127.0.0.1:80"),
        ("[::1]:0", "::1", 0, "[::1]:0"),
        (":8080", None, 8080, "127.0.0.1:8080"),
        ("*:1", None, 1, "127.0.0.1:1"),
        ("0.0.0.0:65535", "0.0.0.0", 65535, "127.0.0.1:65535"),
        ("[::]:9", "::", 9, "[::1]:9"),
        ("box.test:443", "box.test", 443, "box.test:443"),
    ],
)
def test_addresses_are_read(text: str, host: str | None, port: int, local: str) -> None:
    """IPv4, IPv6 in brackets, names, and every address; a client on the machine has something to dial."""
    found = parse_address(text, "--listen")
    assert found == Address(host, port)
    assert found.local == local
    assert parse_address(str(found), "--listen") == found


@pytest.mark.parametrize(
    "text", ["", "80", "a:b", "::1:80", "a:70000", "a:-1", "a:", "[]:1", "[a]:1", "[127.0.0.1]:1", "a b:1", "a:8\u0660"]
)
def test_bad_addresses_are_named(text: str) -> None:
    """The error says which setting and which form."""
    with pytest.raises(ValueError, match=r"--tls-listen: expected HOST:PORT, such as 127\.0\.0\.1:8080"):
        parse_address(text, "--tls-listen")


@pytest.mark.parametrize(
    ("text", "domain", "shown"),
    [
        ("sbx.test", Domain("sbx.test"), "sbx.test"),
        ("SBX.Test.", Domain("sbx.test"), "sbx.test"),
        ("sbx.test:8443", Domain("sbx.test", 8443), "sbx.test:8443"),
        ("sbx.test:443", Domain("sbx.test", 443), "sbx.test"),
        ("localhost", Domain("localhost"), "localhost"),
    ],
)
def test_domains_are_read(text: str, domain: Domain, shown: str) -> None:
    """With or without a port, in any case; 443 needs no saying."""
    assert parse_domain(text, "NAME") == domain
    assert str(domain) == shown


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the name is empty"),
        ("a..b", "no part of a DNS name"),
        ("-a.test", "no part of a DNS name"),
        ("a b", "no part of a DNS name"),
        ("https://sbx.test", "expected a port"),
        ("sbx.test:0", "expected a port from 1 to 65535"),
        ("sbx.test:65536", "expected a port from 1 to 65535"),
        ("sbx.test:", "expected a port from 1 to 65535"),
        ("*.sbx.test", "without"),
        ("127.0.0.1", "an IP address has no names below it"),
        (".".join(["a" * 60] * 4), "longer than"),
    ],
)
def test_bad_domains_are_named(text: str, why: str) -> None:
    """The error says what is wrong, and names the setting."""
    with pytest.raises(ValueError, match=rf"NAME: .*{why}"):
        parse_domain(text, "NAME")
