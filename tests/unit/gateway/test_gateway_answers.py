"""The answers that the gateway gives by itself: texts, statuses and forms that clients compare (contract §1.20)."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from appliance.gateway import Refusal

ID = "iabcdefghij0123456789"
BROWSER = "User-Agent: Mozilla/5.0 (X11; Linux x86_64)"


async def refuse(peer):
    """Hangs up at once."""


def closed_port() -> int:
    """A port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("Host: localhost\nE2b-Sandbox-Id: iabc", "missing header"),
        ("Host: localhost\nE2b-Sandbox-Port: 80", "missing header"),
        ("Host: localhost\nE2b-Sandbox-Id: i/a\nE2b-Sandbox-Port: 80", "Invalid sandbox ID"),
        ("Host: localhost\nE2b-Sandbox-Id: \nE2b-Sandbox-Port: 80", "Invalid sandbox ID"),
        ("Host: localhost\nE2b-Sandbox-Id: a\nE2b-Sandbox-Id: b\nE2b-Sandbox-Port: 80", "Invalid sandbox ID"),
        ("Host: localhost\nE2b-Sandbox-Id: iabc\nE2b-Sandbox-Port: x", "Invalid sandbox port"),
        ("Host: localhost\nE2b-Sandbox-Id: iabc\nE2b-Sandbox-Port: 65536", "Invalid sandbox port"),
        ("Host: localhost\nE2b-Sandbox-Id: iabc\nE2b-Sandbox-Port: 0", "Invalid sandbox port"),
        ("Host: 70000-iabc.sbx.test", "Invalid sandbox port"),
        ("Host: a b", "Invalid host"),
        ("Host: a\nHost: b", "Invalid host"),
        ("X-None: 1", "Invalid host"),
    ],
)
async def test_bad_addresses_are_400_with_the_texts_of_the_contract(world, lines, text):
    """Each malformed address names what is wrong, as plain text."""
    await world.start()
    status, fields, body = await world.ask(f"GET / HTTP/1.1\n{lines}")
    assert (status, body.decode()) == (400, text)
    assert fields["content-type"].startswith("text/plain")


async def test_names_of_machines_are_not_sandboxes(world, echo_handler):
    """10-0-0-5.example.org is a host name of the control API, not port 10 of a sandbox."""
    await world.serve_control(echo_handler)
    await world.start()
    assert (await world.ask("GET / HTTP/1.1\nHost: 10-0-0-5.example.org"))[0] == 200


@pytest.mark.parametrize("refusal", [Refusal.NOT_FOUND, Refusal.PAUSED])
async def test_unknown_dead_and_paused_are_502_not_found(world, address, refusal):
    """The SDKs' is_running() depends on this status and body."""
    world.routes.table[ID, 0] = refusal
    await world.start()
    status, fields, body = await world.ask(f"GET /health HTTP/1.1\n{address}")
    assert status == 502
    assert fields["content-type"] == "application/json; charset=utf-8"
    assert json.loads(body) == {"sandboxId": ID, "message": "The sandbox was not found", "code": 502}


async def test_browsers_get_a_page(world, address):
    """The same refusal for a browser is HTML with the id and the phrase, and markup in it is escaped."""
    await world.start()
    status, fields, body = await world.ask(f"GET / HTTP/1.1\n{address}\n{BROWSER}")
    page = body.decode()
    assert (status, fields["content-type"]) == (502, "text/html; charset=utf-8")
    assert page.startswith("<html") and page.endswith("</html>")
    assert "Sandbox Not Found" in page and ID in page


async def test_the_control_api_is_json_for_browsers_too(world):
    """What the gateway says in its place has its form, whoever asks: an SDK in a browser parses it."""
    await world.start()
    for head, wanted in (("GET /sandboxes", 503), ("POST /sandboxes", 413)):
        length = "Content-Length: 999999999999" if wanted == 413 else "Content-Length: 0"
        status, fields, body = await world.ask(f"{head} HTTP/1.1\nHost: x\n{BROWSER}\n{length}")
        assert (status, fields["content-type"]) == (wanted, "application/json; charset=utf-8")
        assert json.loads(body)["code"] == wanted


async def test_nothing_listens_is_502_port_not_open(world, address):
    """After the configured number of dials, direct and through the forwarder."""
    world.route(ID, 8000, closed_port(), tunnel_port=closed_port())
    gateway = await world.start(connect_attempts=3)
    status, _, body = await world.ask(f"GET / HTTP/1.1\n{address}")
    found = json.loads(body)
    assert status == 502
    assert found["message"] == "The sandbox is running but port is not open"
    assert found["sandboxId"] == ID and found["code"] == 502
    assert gateway.stats.dial_failures == 1
    _, _, page = await world.ask(f"GET / HTTP/1.1\n{address}\n{BROWSER}")
    assert b"no service running on port" in page


async def test_a_sandbox_that_vanishes_during_the_dial_is_not_found(world, address):
    """What is answered after failed dials is what the routes say then, not before."""
    gone = asyncio.Event()

    async def hang_up(peer):
        world.routes.table.clear()
        gone.set()

    real = await world.serve(hang_up, port=9)
    world.route(ID, 8000, closed_port(), tunnel_port=real)
    await world.start(connect_attempts=1)
    status, _, body = await world.ask(f"GET / HTTP/1.1\n{address}")
    assert gone.is_set()
    assert (status, json.loads(body)["message"]) == (502, "The sandbox was not found")


async def test_private_sandboxes_demand_their_token(world, echo_handler, address):
    """Missing and wrong tokens are 403 with their texts; the right one passes and is not shown to the program."""
    await world.serve(echo_handler, traffic_token="s3cret")
    await world.start()
    status, _, body = await world.ask(f"GET / HTTP/1.1\n{address}")
    assert status == 403
    assert json.loads(body)["message"] == (
        "Sandbox is secured with traffic access token. Token header 'e2b-traffic-access-token' is missing"
    )
    status, _, body = await world.ask(f"GET / HTTP/1.1\n{address}\nE2b-Traffic-Access-Token: no")
    assert status == 403
    assert json.loads(body)["message"].endswith("Provided token in header 'e2b-traffic-access-token' is invalid")
    status, _, body = await world.ask(f"GET / HTTP/1.1\n{address}\ne2b-traffic-access-token: s3cret")
    assert status == 200
    assert b"s3cret" not in body
    _, _, page = await world.ask(f"GET / HTTP/1.1\n{address}\n{BROWSER}")
    assert b"Missing Traffic Access Token" in page


async def test_envd_and_preflights_need_no_traffic_token(world, echo_handler, address):
    """Port 49983 has a token of its own; a browser cannot attach one to a CORS preflight."""
    await world.serve(echo_handler, traffic_token="s3cret")
    await world.serve(echo_handler, port=49983, traffic_token="s3cret")
    await world.start()
    assert (await world.ask(f"GET /health HTTP/1.1\nHost: 49983-{ID}.sbx.test"))[0] == 200
    preflight = "Origin: http://a.test\nAccess-Control-Request-Method: PUT"
    status, _, body = await world.ask(f"OPTIONS /x HTTP/1.1\n{address}\n{preflight}")
    assert status == 200
    assert b"Access-Control-Request-Method: PUT\r\n" in body
    assert (await world.ask(f"OPTIONS /x HTTP/1.1\n{address}\nOrigin: http://a.test"))[0] == 403


@pytest.mark.parametrize(
    "path", ["/init", "/freeze", "/unfreeze", "/collapse", "/fsfreeze", "/fsthaw", "/upgrade", "//init", "/a/../init/"]
)
async def test_reserved_endpoints_are_404(world, echo_handler, path):
    """Only the control plane may call them; other spellings of the same path do not help."""
    await world.serve(echo_handler, port=49983)
    await world.serve(echo_handler, port=8000)
    await world.start()
    for spelled in (path, path + "?x=1", path.replace("i", "%69")):
        status, _, body = await world.ask(f"POST {spelled} HTTP/1.1\nHost: 49983-{ID}.sbx.test\nContent-Length: 0")
        assert status == 404
        found = json.loads(body)
        assert found["message"] == (
            "This endpoint is reserved for the E2B control plane and is not reachable through the sandbox URL"
        )
        assert (found["path"], found["code"]) == (spelled.partition("?")[0], 404)
    assert (await world.ask(f"GET {path} HTTP/1.1\nHost: 8000-{ID}.sbx.test"))[0] == 200


async def test_transitions_and_limits_have_their_status(world, address):
    """409 in transition, 429 over a limit, both with Retry-After; 403 when a resume is refused."""
    await world.start()
    for refusal, expected in ((Refusal.TRANSITIONING, 409), (Refusal.TOO_MANY, 429), (Refusal.RESUME_DENIED, 403)):
        world.routes.table[ID, 0] = refusal
        status, fields, body = await world.ask(f"GET / HTTP/1.1\n{address}")
        assert (status, json.loads(body)["code"]) == (expected, expected)
        assert ("retry-after" in fields) == (expected != 403)


async def test_a_control_api_that_is_not_there_is_503(world):
    """A manager that is starting says so, and when to come back."""
    await world.start()
    status, fields, body = await world.ask("GET /sandboxes HTTP/1.1\nHost: localhost")
    assert (status, json.loads(body)["code"]) == (503, 503)
    assert fields["retry-after"] == "1"


async def test_a_server_that_hangs_up_without_a_word_is_502(world, address):
    """A fresh connection that is closed before an answer is the server's failure: no retry, JSON for the client."""
    await world.serve(refuse)
    gateway = await world.start()
    status, _, body = await world.ask(f"GET / HTTP/1.1\n{address}")
    assert (status, json.loads(body)["code"]) == (502, 502)
    assert gateway.stats.retries == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
    ],
)
async def test_doubtful_answers_are_502(world, address, answer):
    """Two lengths, unknown codings, unasked upgrades, endless heads, not HTTP at all: never passed on."""

    async def handler(peer):
        await peer.head()
        await peer.send(answer)
        await peer.rest()

    await world.serve(handler)
    await world.start()
    assert (await world.ask(f"GET / HTTP/1.1\n{address}"))[0] == 502


async def test_a_paused_sandbox_is_woken_once_for_all_who_wait(world, echo_handler, address):
    """Fifty requests share one wake and are all served after it."""
    await world.serve(echo_handler)
    route = world.routes.table[ID, 8000]
    world.routes.table[ID, 8000] = Refusal.PAUSED_RESUMABLE
    waiting = asyncio.Event()

    async def wake(sandbox_id):
        await waiting.wait()
        world.routes.table[ID, 8000] = route
        return True

    world.routes.on_wake = wake
    gateway = await world.start()
    clients = [await world.connect() for _ in range(50)]
    head = f"GET / HTTP/1.1\n{address}\n\n".replace("\n", "\r\n").encode()
    for client in clients:
        await client.send(head)
    while len(gateway._hub.exchanges.get(ID, ())) < 50:
        await asyncio.sleep(0)
    waiting.set()
    assert [(await client.answer())[0] for client in clients] == [200] * 50
    assert world.routes.wakes == 1


async def test_a_body_that_arrives_while_a_sandbox_is_woken_is_not_lost(world, echo_handler, address):
    """Whatever was sent before the sandbox ran reaches the service whole, and the next request is read as such."""
    await world.serve(echo_handler)
    route = world.routes.table[ID, 8000]
    world.routes.table[ID, 8000] = Refusal.PAUSED_RESUMABLE
    sent = asyncio.Event()

    async def wake(sandbox_id):
        await sent.wait()
        world.routes.table[ID, 8000] = route
        return True

    world.routes.on_wake = wake
    gateway = await world.start()
    client = await world.connect()
    await client.send(f"POST /a HTTP/1.1\n{address}\nContent-Length: 9\n\nfirst".replace("\n", "\r\n").encode())
    while ID not in gateway._hub.exchanges:
        await asyncio.sleep(0)
    await client.send(b"more")
    (exchange,) = gateway._hub.exchanges[ID]
    while not exchange.request_done:
        await asyncio.sleep(0)
    sent.set()
    status, _, body = await client.answer()
    assert status == 200 and body.startswith(b"POST /a") and body.endswith(b"\r\n\r\nfirstmore")
    await client.send(f"GET /b HTTP/1.1\n{address}\n\n".replace("\n", "\r\n").encode())
    status, _, body = await client.answer()
    assert status == 200 and body.startswith(b"GET /b") and body.endswith(b"\r\n\r\n")


async def test_who_could_not_use_a_sandbox_does_not_wake_it(world, address):
    """Credentials are looked at before the wake: 403 with the proxy's text, and nothing was resumed."""
    world.routes.table[ID, 8000] = Refusal.PAUSED_RESUMABLE
    world.routes.admit = False
    await world.start()
    tokens = "X-Access-Token: one\nE2b-Traffic-Access-Token: two"
    status, _, body = await world.ask(f"GET /x?y HTTP/1.1\n{address}\n{tokens}")
    assert status == 403 and b"can't be resumed with the credentials provided" in body
    assert world.routes.wakes == 0
    assert world.routes.shown == [(b"GET", b"/x?y", b"one", b"two")]


@pytest.mark.parametrize(("outcome", "status"), [(False, 403), (RuntimeError("no"), 409), (TimeoutError(), 409)])
async def test_a_wake_that_fails_is_answered(world, address, outcome, status):
    """Not allowed is 403; a failure or a time-out is 409, and the next request tries again."""
    world.routes.table[ID, 8000] = Refusal.PAUSED_RESUMABLE

    async def wake(sandbox_id):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    world.routes.on_wake = wake
    await world.start()
    assert (await world.ask(f"GET / HTTP/1.1\n{address}"))[0] == status
    assert (await world.ask(f"GET / HTTP/1.1\n{address}"))[0] == status
    assert world.routes.wakes == 2


async def test_a_wake_is_bounded(world, address):
    """A resume that never ends is 409 after wake_timeout."""
    world.routes.table[ID, 8000] = Refusal.PAUSED_RESUMABLE

    async def wake(sandbox_id):
        await asyncio.Event().wait()
        return True

    world.routes.on_wake = wake
    await world.start(wake_timeout=0.05)
    assert (await world.ask(f"GET / HTTP/1.1\n{address}"))[0] == 409


async def test_head_answers_carry_no_body(world, address):
    """A refusal of HEAD has the length of the body it does not send; the connection stays usable."""
    await world.start()
    client = await world.connect()
    for _ in range(2):
        await client.send(f"HEAD / HTTP/1.1\n{address}\n\n".replace("\n", "\r\n").encode())
        status, fields, _ = await client.answer(method="HEAD")
        assert status == 502 and int(fields["content-length"]) > 0
