"""Secure mode through the gateway, with two sandboxes: contract §1.13, text by text, and in the order it asks for."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from boxes import RunningBox
from e2b import Sandbox

pytestmark = pytest.mark.box
RPC = "/process.Process/List"
UNAUTHORIZED = "unauthorized access, please provide a valid access token or method signing if supported"
MISSING, INVALID, EXPIRED = "missing signature query parameter", "invalid signature", "signature is already expired"
NO_MATCH = "access token present in header but does not match"


class Guarded:
    """A secured sandbox, and requests to its envd with what a test shows."""

    def __init__(self, client: httpx.Client, sandbox: Sandbox) -> None:
        self._client, self.sandbox = client, sandbox
        self.token = str(sandbox._envd_access_token)

    def call(self, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
        """One request; ``token`` None shows no header."""
        headers = {"E2b-Sandbox-Id": self.sandbox.sandbox_id, "E2b-Sandbox-Port": "49983"}
        headers |= {} if token is None else {"X-Access-Token": token}
        return self._client.request(method, path, headers=headers, **options)

    def refused(self, method: str, path: str, token: str | None = None, **options: Any) -> str:
        """The message of a 401."""
        answer = self.call(method, path, token, **options)
        assert answer.status_code == 401 and answer.json()["code"] == 401
        return str(answer.json()["message"])

    def sign(self, path: str, operation: str, user: str = "", expiration: int | None = None) -> str:
        """A signature, made here by the letter of the contract."""
        parts = [path, operation, user, self.token, *([] if expiration is None else [str(expiration)])]
        return "v1_" + base64.b64encode(hashlib.sha256(":".join(parts).encode()).digest()).decode().rstrip("=")


@pytest.fixture(scope="module")
def pair(box: RunningBox) -> Iterator[tuple[Guarded, Guarded]]:
    """Two secured sandboxes of one owner."""
    env = box.env
    options: Any = {"api_key": env["E2B_API_KEY"], "api_url": env["E2B_API_URL"], "sandbox_url": env["E2B_SANDBOX_URL"]}
    with (
        httpx.Client(base_url=env["E2B_SANDBOX_URL"], timeout=30, trust_env=False) as client,
        Sandbox.create("code-interpreter", timeout=300, **options) as one,
        Sandbox.create("code-interpreter", timeout=300, **options) as other,
    ):
        one.files.write("/home/user/x", "hello")
        yield Guarded(client, one), Guarded(client, other)


def test_everything_but_health_wants_the_sandboxs_own_token(pair: tuple[Guarded, Guarded]) -> None:
    """None, an empty one, garbage and the other sandbox's are 401 alike; the control plane's paths do not exist."""
    one, other = pair
    assert one.call("GET", "/health").status_code == 204
    for shown in (None, "", "x", other.token, one.token.upper(), one.token[:-1]):
        for method, path in (("POST", RPC), ("GET", "/metrics"), ("GET", "/envs"), ("POST", "/files/compose")):
            assert one.refused(method, path, shown, json={} if method == "POST" else None) == UNAUTHORIZED
    assert one.call("POST", RPC, one.token, json={}).status_code == 200
    assert one.call("POST", "/init", one.token, json={}).status_code == 404
    assert one.token != other.token


def test_files_take_the_header_or_a_signature(pair: tuple[Guarded, Guarded]) -> None:
    """A header that does not match is refused even beside a good signature; without either the signature is missed."""
    one, other = pair
    good = {"path": "x", "signature": one.sign("x", "read")}
    assert one.call("GET", "/files", one.token, params={"path": "x"}).text == "hello"
    assert one.call("GET", "/files", params=good).text == "hello"
    assert one.refused("GET", "/files", params={"path": "x"}) == MISSING
    for method in ("GET", "POST"):
        assert one.refused(method, "/files", other.token, params=good) == NO_MATCH


def test_a_signature_holds_for_what_it_signs_and_nothing_else(pair: tuple[Guarded, Guarded]) -> None:
    """Not for another path, user, operation, sandbox or time; the path counts as it is sent."""
    one, other = pair
    later = int(time.time()) + 100
    signed = one.sign("x", "read")
    wrong: list[dict[str, Any]] = [
        {"path": "/home/user/x", "signature": signed},
        {"path": "./x", "signature": signed},
        {"path": "x", "username": "root", "signature": signed},
        {"path": "x", "signature": one.sign("x", "write")},
        {"path": "x", "signature": other.sign("x", "read")},
        {"path": "x", "signature": one.sign("x", "read", "", later), "signature_expiration": later + 1},
        {"path": "x", "signature": signed, "signature_expiration": later},
        {"path": "x", "signature": signed + "="},
        {"path": "x", "signature": ""},
    ]
    for query in wrong:
        assert one.refused("GET", "/files", params=query) == INVALID, query
    assert other.refused("GET", "/files", params={"path": "x", "signature": signed}) == INVALID
    query = {"path": "x", "username": "user", "signature": one.sign("x", "read", "user")}
    assert one.call("GET", "/files", params=query).text == "hello"


def test_the_signature_is_compared_first_and_its_age_after(pair: tuple[Guarded, Guarded]) -> None:
    """A good one that is too old says so; a bad one that is too old says that it is bad."""
    one, _ = pair
    past, later = int(time.time()) - 1, int(time.time()) + 100
    old = {"path": "x", "signature": one.sign("x", "read", "", past), "signature_expiration": past}
    answer = one.call("GET", "/files", params=old)
    assert (answer.status_code, answer.json()) == (401, {"code": 401, "message": EXPIRED})
    assert one.refused("GET", "/files", params={**old, "signature": "v1_x"}) == INVALID
    good = {"path": "x", "signature": one.sign("x", "read", "", later), "signature_expiration": later}
    assert one.call("GET", "/files", params=good).text == "hello"


def test_the_sdks_urls_work_without_a_header(pair: tuple[Guarded, Guarded]) -> None:
    """Download and upload, with and without expiry and user; one signed without a path goes where its name says."""
    one, _ = pair
    for options in ({}, {"user": "root"}, {"use_signature_expiration": 60}):
        url = one.sandbox.download_url("/home/user/x", **options)  # type: ignore[arg-type]
        assert one.call("GET", url).text == "hello"
        url = one.sandbox.upload_url("/home/user/up", **options)  # type: ignore[arg-type]
        answer = one.call("POST", url, files={"file": ("ignored", str(options))})
        assert answer.status_code == 200 and one.sandbox.files.read("/home/user/up") == str(options)
    pathless = {"signature": one.sign("", "write")}
    answer = one.call("POST", "/files", params=pathless, files={"file": ("named", "by the file name")})
    assert answer.json()[0]["path"] == "/home/user/named"
    assert one.refused("POST", one.sandbox.download_url("/home/user/x"), files={"file": ("x", "no")}) == INVALID
    url = one.sandbox.download_url("/home/user/x", use_signature_expiration=-10)
    assert one.refused("GET", url) == EXPIRED
