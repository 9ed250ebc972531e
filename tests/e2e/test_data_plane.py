"""The data plane on a real box: every way to a sandbox's servers, every kind of traffic, every refusal (§1.20)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from boxes import RunningBox
from e2b import Sandbox

pytestmark = pytest.mark.box
TEMPLATE = "code-interpreter"
SERVER = Path(__file__).parents[1] / "support" / "sandbox_server.py"
PORT = 8000


@pytest.fixture(scope="module")
def options(box: RunningBox) -> dict[str, Any]:
    """How the SDK reaches the box."""
    env = box.env
    return {"api_key": env["E2B_API_KEY"], "api_url": env["E2B_API_URL"], "sandbox_url": env["E2B_SANDBOX_URL"]}


def start_server(sandbox: Sandbox, host: str, port: int, *pair: str) -> None:
    """Run the test server in the sandbox, with TLS if a certificate and its key are named; wait until it listens."""
    sandbox.files.write("/home/user/server.py", SERVER.read_text())
    ready = threading.Event()
    command = f"python3 /home/user/server.py {' '.join((host, str(port), *pair))}"
    running = sandbox.commands.run(command, background=True, timeout=0)

    def watch() -> None:
        for out, _, _ in running:
            if out and "serving" in out:
                ready.set()
                return

    thread = threading.Thread(target=watch)
    thread.start()
    assert ready.wait(15), "the server in the sandbox did not start"
    thread.join()
    running.disconnect()


@pytest.fixture(scope="module")
def sandbox(options: dict[str, Any]) -> Iterator[Sandbox]:
    """A sandbox whose server listens on 127.0.0.1 alone."""
    with Sandbox.create(TEMPLATE, timeout=300, **options) as made:
        start_server(made, "127.0.0.1", PORT)
        yield made


@pytest.fixture(scope="module")
def plane(options: dict[str, Any]) -> Iterator[httpx.Client]:
    """A client without credentials."""
    limits = httpx.Limits(max_connections=None)
    with httpx.Client(base_url=options["sandbox_url"], timeout=30, trust_env=False, limits=limits) as client:
        yield client


def at(sandbox: Sandbox, port: int = PORT, **more: str) -> dict[str, str]:
    """The headers that route to a sandbox's port."""
    return {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": str(port), **more}


def test_headers_host_and_path_lead_to_the_same_server(sandbox: Sandbox, plane: httpx.Client) -> None:
    """All three routes reach a server on the sandbox's loopback; the path route removes its prefix and says so."""
    host = f"{PORT}-{sandbox.sandbox_id}.example.test"
    by_path = plane.get(f"/kruise/{sandbox.sandbox_id}/{PORT}/a/b?c=%2F").json()
    assert by_path["target"] == "/a/b?c=%2F"
    assert by_path["fields"]["x-forwarded-prefix"] == f"/kruise/{sandbox.sandbox_id}/{PORT}"
    assert plane.get("/a", headers=at(sandbox)).json()["target"] == "/a"
    by_host = plane.get("/a", headers={"Host": host}).json()
    assert (by_host["target"], by_host["fields"]["host"]) == ("/a", host)


@pytest.mark.parametrize("address", ["::1", "::", "0.0.0.0", "localhost"])
def test_servers_are_reachable_wherever_they_listen(sandbox: Sandbox, plane: httpx.Client, address: str) -> None:
    """Loopback of either family, its name, and every address."""
    port = 8100 + len(address)
    start_server(sandbox, address, port)
    assert plane.get("/here", headers=at(sandbox, port)).json()["target"] == "/here"


def test_events_arrive_when_they_are_sent(sandbox: Sandbox, plane: httpx.Client) -> None:
    """Server-sent events are not gathered: the first is read before the server may send the second."""
    with plane.stream("GET", "/sse", headers=at(sandbox)) as events:
        lines = events.iter_lines()
        assert next(lines) == "data: 1"
        assert plane.get("/go", headers=at(sandbox)).status_code == 200
        assert [line for line in lines if line] == ["data: 2"]


def test_uploads_without_a_length_arrive_whole(sandbox: Sandbox, plane: httpx.Client) -> None:
    """Sixteen MiB in chunks of odd sizes, to the sandbox's own server."""
    pieces = [os.urandom(99_991) for _ in range(168)]
    answer = plane.post("/upload", content=iter(pieces), headers=at(sandbox)).json()
    whole = b"".join(pieces)
    assert (answer["size"], answer["sha256"]) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert "content-length" not in answer["fields"]


async def test_an_upgrade_passes_bytes_both_ways(sandbox: Sandbox, plane: httpx.Client) -> None:
    """After 101 whatever is sent comes back, also what was sent along with the request; so does the end."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(plane.base_url.host, plane.base_url.port)
        head = f"GET /ws HTTP/1.1\r\nHost: {PORT}-{sandbox.sandbox_id}.test\r\n"
        writer.write(head.encode() + b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\nearly")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert await reader.readexactly(5) == b"early"
        data = os.urandom(1 << 20)
        sending = asyncio.create_task(_send(writer, data))
        assert await reader.readexactly(len(data)) == data
        await sending
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
    writer.write_eof()


async def test_expect_is_answered_before_the_body(sandbox: Sandbox, plane: httpx.Client) -> None:
    """The server's 100 Continue comes through, then the body goes and the final answer comes."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(plane.base_url.host, plane.base_url.port)
        head = f"POST /x HTTP/1.1\r\nHost: {PORT}-{sandbox.sandbox_id}.test\r\nContent-Length: 4\r\n"
        writer.write(head.encode() + b"Expect: 100-continue\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"body")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()


async def test_http_2_in_clear_is_answered_honestly(sandbox: Sandbox, plane: httpx.Client) -> None:
    """An offer to upgrade to h2c is served as HTTP/1.1; a client that speaks HTTP/2 at once is told 505."""
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA"}
    answer = plane.get("/x", headers=at(sandbox, **offer))
    assert (answer.status_code, answer.http_version) == (200, "HTTP/1.1")
    assert not {"upgrade", "http2-settings"} & set(answer.json()["fields"])
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(plane.base_url.host, plane.base_url.port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
        assert (await reader.read()).startswith(b"HTTP/1.1 505 ")
        writer.close()
        await writer.wait_closed()


async def test_a_slow_client_and_one_that_has_said_everything(sandbox: Sandbox, plane: httpx.Client) -> None:
    """A head byte by byte, a body in two halves, then the sending side shut: the answer comes all the same."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(plane.base_url.host, plane.base_url.port)
        host = f"{PORT}-{sandbox.sandbox_id}.test"
        for byte in f"POST /x HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\n\r\nbo".encode():
            writer.write(bytes([byte]))
            await writer.drain()
        writer.write(b"dy")
        writer.write_eof()
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 ") and hashlib.sha256(b"body").hexdigest().encode() in answer
        writer.close()
        await writer.wait_closed()


async def test_a_kill_resets_streams_and_leaves_a_page(options: dict[str, Any], plane: httpx.Client) -> None:
    """The open stream ends with RST, not with an end that looks whole; then programs and browsers get their 502."""
    doomed = Sandbox.create(TEMPLATE, timeout=60, **options)
    start_server(doomed, "127.0.0.1", PORT)
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection(plane.base_url.host, plane.base_url.port)
        writer.write(f"GET /sse HTTP/1.1\r\nHost: {PORT}-{doomed.sandbox_id}.test\r\n\r\n".encode())
        assert b"data: 1" in await reader.readuntil(b"data: 1\n\n")
        assert await asyncio.to_thread(doomed.kill)
        with pytest.raises(ConnectionResetError):
            while await reader.read(100):
                pass
        writer.close()
    gone = plane.get("/", headers=at(doomed))
    expected = {"sandboxId": doomed.sandbox_id, "message": "The sandbox was not found", "code": 502}
    assert (gone.status_code, gone.json(), gone.headers["content-type"]) == (
        502, expected, "application/json; charset=utf-8")  # fmt: skip
    page = plane.get("/", headers=at(doomed, **{"User-Agent": "Mozilla/5.0"}))
    assert page.headers["content-type"] == "text/html; charset=utf-8" and page.text.endswith("</html>")
    assert page.text.startswith("<html") and "Sandbox Not Found" in page.text and doomed.sandbox_id in page.text


async def test_a_hundred_connections_at_once(sandbox: Sandbox, plane: httpx.Client) -> None:
    """A hundred requests wait in the same server for each other, and all are answered."""
    async with httpx.AsyncClient(
        base_url=plane.base_url, timeout=30, trust_env=False, limits=httpx.Limits(max_connections=None)
    ) as client:
        answers = await asyncio.gather(*(client.get("/meet/100", headers=at(sandbox)) for _ in range(100)))
    assert [one.status_code for one in answers] == [200] * 100


def test_a_private_sandbox_wants_its_token_and_shows_the_masked_host(
    options: dict[str, Any], plane: httpx.Client
) -> None:
    """403 without or with a wrong token, as JSON or page; with it the service sees the masked Host and no token."""
    network: Any = {"allow_public_traffic": False, "mask_request_host": "custom.example.com:${PORT}"}
    with Sandbox.create(TEMPLATE, timeout=60, network=network, **options) as private:
        start_server(private, "0.0.0.0", PORT)
        missing = plane.get("/", headers=at(private))
        wrong = plane.get("/", headers=at(private, **{"e2b-traffic-access-token": "x"}))
        page = plane.get("/", headers=at(private, **{"User-Agent": "Mozilla/5.0"}))
        start = "Sandbox is secured with traffic access token. "
        assert [one.status_code for one in (missing, wrong, page)] == [403] * 3
        assert missing.json()["message"] == f"{start}Token header 'e2b-traffic-access-token' is missing"
        assert wrong.json()["message"] == f"{start}Provided token in header 'e2b-traffic-access-token' is invalid"
        assert page.text.startswith("<html") and "Missing Traffic Access Token" in page.text
        token = private.traffic_access_token
        assert token
        seen = plane.get("/", headers=at(private, **{"e2b-traffic-access-token": token})).json()["fields"]
        assert seen["host"] == f"custom.example.com:{PORT}" and "e2b-traffic-access-token" not in seen
        assert plane.get("/health", headers=at(private, 49983)).status_code == 204


def test_refusals_have_the_bodies_of_the_contract(
    sandbox: Sandbox, options: dict[str, Any], plane: httpx.Client
) -> None:
    """Nothing listening, paused, unknown, the control plane's own paths, malformed addresses."""
    closed = plane.get("/", headers=at(sandbox, 8999))
    message = "The sandbox is running but port is not open"
    assert closed.status_code == 502
    assert closed.json() == {"sandboxId": sandbox.sandbox_id, "message": message, "port": 8999, "code": 502}
    page = plane.get("/", headers=at(sandbox, 8999, **{"User-Agent": "Mozilla/5.0"})).text
    assert page.startswith("<html") and page.endswith("</html>") and "no service running on port 8999" in page
    reserved = plane.post("/init", headers=at(sandbox, 49983), json={})
    assert (reserved.status_code, reserved.json()["path"]) == (404, "/init")
    for fields, text in (
        ({"Host": "a b"}, "Invalid host"),
        ({"Host": "99999-abc.example.test"}, "Invalid sandbox port"),
        ({"E2b-Sandbox-Id": "abc"}, "missing header"),
        ({"E2b-Sandbox-Id": "a!", "E2b-Sandbox-Port": "1"}, "Invalid sandbox ID"),
        ({"E2b-Sandbox-Id": "abc", "E2b-Sandbox-Port": "x"}, "Invalid sandbox port"),
    ):
        answer = plane.get("/", headers=fields)
        assert (answer.status_code, answer.text) == (400, text)
    with Sandbox.create(TEMPLATE, timeout=60, **options) as paused:
        paused.pause()
        for port in (PORT, 49983):
            gone = plane.get("/health", headers=at(paused, port))
            expected = {"sandboxId": paused.sandbox_id, "message": "The sandbox was not found", "code": 502}
            assert (gone.status_code, gone.json()) == (502, expected)


async def test_ports_that_speak_tls_are_dialled_with_tls(options: dict[str, Any], plane: httpx.Client) -> None:
    """A self-signed service on loopback: uploads, an upgrade, after a pause too; a plain one is told apart."""
    network = {"https_ports": [8443, 8444]}
    with Sandbox.create(TEMPLATE, timeout=300, network=network, **options) as made:
        assert made.get_info().network == network
        made.commands.run("openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=self")
        start_server(made, "127.0.0.1", 8443, "/home/user/cert.pem", "/home/user/key.pem")
        start_server(made, "127.0.0.1", 8444)
        body = os.urandom(1 << 20)
        for _ in range(2):
            answer = plane.post("/upload", content=body, headers=at(made, 8443)).json()
            assert answer["sha256"] == hashlib.sha256(body).hexdigest()
            made.pause()
            made.connect(timeout=300)
            made.update_network({})
        refused = plane.get("/", headers=at(made, 8444))
        assert refused.status_code == 502 and "does not speak TLS" in refused.json()["message"]
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection(plane.base_url.host, plane.base_url.port)
            head = f"GET /ws HTTP/1.1\r\nHost: 8443-{made.sandbox_id}.test\r\n"
            writer.write(head.encode() + b"Connection: Upgrade\r\nUpgrade: echo\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            data = os.urandom(1 << 20)
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
            writer.close()
            await writer.wait_closed()
