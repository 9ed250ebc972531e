"""The addresses of a box before and while its roles start."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.box import certificates, supervise
from appliance.box.addresses import answers, require_free
from appliance.box.children import Child
from appliance.box.layout import write_private


def unused() -> str:
    """An address that had a listener a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_a_taken_port_is_named_with_the_flag_that_changes_it() -> None:
    """Without this a stranger on the port would pass for a ready role."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RuntimeError, match=rf"{listen} cannot be used: Address already in use.*--listen HOST:PORT"):
            require_free({"--tls-listen": None, "--listen": listen})


def test_a_free_port_passes_also_right_after_use_but_not_for_two_roles() -> None:
    """One whose last listener is gone can be used again at once, by one flag."""
    listen = unused()
    for _ in range(2):
        require_free({"--listen": listen, "--apiserver-listen": unused()})
    with pytest.raises(RuntimeError, match=rf"{listen} cannot be used.*--apiserver-listen HOST:PORT"):
        require_free({"--listen": listen, "--apiserver-listen": listen})


@contextlib.asynccontextmanager
async def https(directory: Path) -> AsyncIterator[str]:
    """A server whose certificate the authority in ``directory`` has signed; its URL."""
    directory.mkdir()
    certificates.ensure(directory, "127.0.0.1", write_private)
    certificates.ensure_domain(directory, "box.test", write_private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "domain.crt", directory / "domain.key")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/readyz"


async def test_only_a_box_s_own_server_counts(tmp_path: Path) -> None:
    """Another box's API server on the same address answers as well, but with another authority's certificate."""
    async with https(tmp_path / "own") as own, https(tmp_path / "other") as other:
        authority = tmp_path / "own" / "ca.crt"
        assert await answers(own, authority=authority) and await answers(other)
        assert not await answers(other, authority=authority)


async def test_a_role_that_lost_the_race_for_its_address_is_not_restarted_for_ever(tmp_path: Path) -> None:
    """The address is told by its flag; a role that ended for another reason shows its log."""

    async def never() -> bool:
        return False

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        for addresses, told in (({"--apiserver-listen": listen}, f"{listen} cannot be used"), ({}, "ended at start")):
            child = Child("role", ["--role=none"], log=tmp_path / "log", backoff_max=0.1, stop_timeout=5)
            await child.start()
            with pytest.raises(RuntimeError, match=told):
                await supervise.came_up(child, never, addresses)
            assert child.pid is None
