"""Which upstream a request reaches, and what it looks like when it arrives."""

from __future__ import annotations

import pytest

from appliance.gateway.routes import Refusal

ID = "iabcdefghij0123456789"


async def test_headers_route_to_a_sandbox(world, echo_handler, address):
    """The two E2b headers reach that sandbox and port; the path is untouched."""
    await world.serve(echo_handler)
    await world.start()
    status, _, body = await world.ask(f"GET /a/b?c=d HTTP/1.1\n{address}")
    assert status == 200
    assert body.startswith(b"GET /a/b?c=d HTTP/1.1\r\nHost: localhost\r\n")


async def test_host_routes_to_a_sandbox(world, echo_handler):
    """PORT-ID.DOMAIN[:PORT] reaches that sandbox and port, with the public host kept."""
    await world.serve(echo_handler)
    await world.start()
    status, _, body = await world.ask(f"GET / HTTP/1.1\nHost: 8000-{ID}.sbx.test:8443")
    assert status == 200
    assert f"Host: 8000-{ID}.sbx.test:8443\r\n".encode() in body


async def test_path_routes_to_a_sandbox(world, echo_handler):
    """/kruise/ID/PORT/… reaches that sandbox with the prefix removed and announced."""
    await world.serve(echo_handler)
    await world.start()
    status, _, body = await world.ask(f"GET /kruise/{ID}/8000/x/y?q=1 HTTP/1.1\nHost: localhost")
    assert status == 200
    assert body.startswith(b"GET /x/y?q=1 HTTP/1.1\r\n")
    assert f"X-Forwarded-Prefix: /kruise/{ID}/8000\r\n".encode() in body


async def test_everything_else_is_the_control_api(world, echo_handler):
    """Other requests reach the Unix socket; /kruise/api is removed."""
    await world.serve_control(echo_handler)
    await world.start()
    _, _, plain = await world.ask("GET /sandboxes HTTP/1.1\nHost: localhost\nX-API-Key: e2b_00")
    _, _, prefixed = await world.ask("GET /kruise/api/v2/sandboxes?limit=1 HTTP/1.1\nHost: localhost")
    assert plain.startswith(b"GET /sandboxes HTTP/1.1\r\n")
    assert b"X-API-Key: e2b_00\r\n" in plain
    assert prefixed.startswith(b"GET /v2/sandboxes?limit=1 HTTP/1.1\r\n")


async def test_every_request_of_a_connection_is_routed_anew(world, echo_handler, address):
    """Pipelined requests for three upstreams are answered in order, each by its own."""
    other = "izzzzzzzzzzzzzzzzzzzz"
    await world.serve(echo_handler)
    await world.serve(echo_handler, sandbox_id=other, port=9000)
    await world.serve_control(echo_handler)
    await world.start()
    client = await world.connect()
    one = f"POST /one HTTP/1.1\n{address}\nContent-Length: 3\n\nabc"
    two = f"GET /two HTTP/1.1\nHost: 9000-{other}.sbx.test\n\n"
    three = "GET /three HTTP/1.1\nHost: localhost\n\n"
    await client.send((one + two + three).replace("\n", "\r\n").encode())
    bodies = [(await client.answer())[2] for _ in range(3)]
    assert [body.split()[1] for body in bodies] == [b"/one", b"/two", b"/three"]
    assert bodies[0].endswith(b"\r\n\r\nabc")
    assert len(world.dials) == 3


async def test_hop_by_hop_fields_stay_here(world, echo_handler, address):
    """Fields of one hop, and those that Connection nominates, are not forwarded; ours are added."""
    await world.serve(echo_handler)
    await world.start()
    _, _, body = await world.ask(
        f"GET / HTTP/1.1\n{address}\nConnection: x-secret, keep-alive\nX-Secret: 1\nKeep-Alive: 5\nTE: trailers\n"
        "Proxy-Connection: keep-alive\nUpgrade: h2c\nHTTP2-Settings: AAA\nX-Kept: yes"
    )
    text = body.decode().lower()
    for absent in ("x-secret", "keep-alive", "te:", "proxy-", "upgrade", "http2", "connection:"):
        assert absent not in text
    assert "x-kept: yes" in text
    assert "x-forwarded-for: 127.0.0.1\r\n" in text
    assert "x-forwarded-proto: http\r\n" in text


async def test_forwarded_fields_of_a_proxy_in_front_are_extended(world, echo_handler, address):
    """Our peer's address is appended; scheme and host stay as the first proxy saw them."""
    await world.serve(echo_handler)
    await world.start()
    _, _, body = await world.ask(
        f"GET / HTTP/1.1\n{address}\nX-Forwarded-For: 192.0.2.1\nX-Forwarded-Proto: https\nX-Forwarded-Host: pub.test"
    )
    assert b"X-Forwarded-For: 192.0.2.1, 127.0.0.1\r\n" in body
    assert b"X-Forwarded-Proto: https\r\n" in body
    assert b"X-Forwarded-Host: pub.test\r\n" in body


async def test_masked_host_replaces_the_public_one(world, echo_handler, address):
    """maskRequestHost is what user ports see, with ${PORT} filled in."""
    await world.serve(echo_handler, mask_host="app.test:${PORT}")
    await world.start()
    _, _, body = await world.ask(f"GET / HTTP/1.1\n{address}")
    assert b"Host: app.test:8000\r\n" in body
    assert b"X-Forwarded-Host: localhost\r\n" in body


async def test_upstream_connections_are_reused(world, echo_handler, address):
    """A second request, also of another client, uses the kept connection."""
    await world.serve(echo_handler)
    gateway = await world.start()
    for _ in range(3):
        assert (await world.ask(f"GET / HTTP/1.1\n{address}"))[0] == 200
    assert len(world.dials) == 1
    assert gateway.stats.reuses == 2
    assert gateway.stats.requests == {("sandbox", "2xx"): 3}


async def test_an_id_made_elsewhere_a_moment_ago_is_asked_for(world, echo_handler, address):
    """Another gateway's sandbox is reached by the very next request, before any event told of it."""
    await world.serve(echo_handler)
    route = world.routes.table.pop((ID, 8000))
    world.routes.on_refresh = lambda: world.routes.table.__setitem__((ID, 8000), route)
    await world.start()
    assert (await world.ask(f"GET / HTTP/1.1\n{address}"))[0] == 200
    assert world.routes.refreshed == [ID]


@pytest.mark.parametrize("refusal", [Refusal.PAUSED, Refusal.TRANSITIONING, Refusal.PAUSED_RESUMABLE])
async def test_a_sandbox_that_another_gateway_has_just_resumed_is_not_refused(world, echo_handler, address, refusal):
    """What memory says of it is a moment old: the cluster is asked before the request is turned away or wakes it."""
    await world.serve(echo_handler)
    route = world.routes.table[ID, 8000]
    world.routes.table[ID, 8000] = refusal
    world.routes.on_refresh = lambda: world.routes.table.__setitem__((ID, 8000), route)
    await world.start()
    assert (await world.ask(f"GET / HTTP/1.1\n{address}"))[0] == 200
    assert (world.routes.refreshed, world.routes.wakes) == ([ID], 0)


async def test_an_id_that_nobody_knows_is_asked_for_once_a_second(world, address):
    """However often clients come for it; and a flood of different ids is bounded too."""
    gateway = await world.start()
    for _ in range(5):
        assert (await world.ask(f"GET / HTTP/1.1\n{address}"))[0] == 502
    assert world.routes.refreshed == [ID]
    assert sum(gateway._hub.may_ask(f"i{number}", known=False) for number in range(500)) < 50
    assert len(gateway._hub._unknown) <= 1024


async def test_health_is_answered_by_what_the_cluster_says_now(world, echo_handler, address):
    """A sandbox that another gateway has just killed is not alive here; other paths cost no question."""
    envd = address.replace("8000", "49983")
    await world.serve(echo_handler, port=49983)
    await world.start()
    assert (await world.ask(f"GET /files HTTP/1.1\n{envd}"))[0] == 200
    assert (await world.ask(f"GET /health HTTP/1.1\n{envd}"))[0] == 200
    assert world.routes.refreshed == [ID]
    world.routes.on_refresh = world.routes.table.clear
    assert (await world.ask(f"GET /health HTTP/1.1\n{envd}"))[0] == 502
