"""The packets between the server process and the supervisor."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from appliance.runtime.supervise import messages


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a non-blocking packet socket."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    left.setblocking(False)
    right.setblocking(False)
    yield left, right
    left.close()
    right.close()


@pytest.mark.parametrize("size", [0, 100, messages.INLINE_MAX + 1, 3_000_000])
def test_a_state_of_any_size_arrives_whole(pair: tuple[socket.socket, socket.socket], size: int) -> None:
    """Small messages travel in the packet, large ones through a descriptor; both arrive as they were sent."""
    state = b"x" * size
    messages.send(pair[0], messages.SaveState(state=state))
    assert messages.receive_request(pair[1]) == (messages.SaveState(state=state), [])


def test_nothing_to_read_does_not_block(pair: tuple[socket.socket, socket.socket]) -> None:
    """A reader without a message is told so at once, because the supervisor must never hang."""
    with pytest.raises(BlockingIOError):
        messages.receive_report(pair[0])


def test_a_closed_peer_reads_as_none(pair: tuple[socket.socket, socket.socket]) -> None:
    """End of file is None, not an error."""
    pair[0].close()
    assert messages.receive_request(pair[1]) == (None, [])


def test_a_full_socket_does_not_block_the_sender(pair: tuple[socket.socket, socket.socket]) -> None:
    """A sender whose peer does not read gets BlockingIOError and keeps the message."""
    with pytest.raises(BlockingIOError):
        for _ in range(100_000):
            messages.send(pair[0], messages.Exited(id="k", status=0))
