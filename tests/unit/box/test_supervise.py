"""The supervisor's own checks."""

import socket

import pytest

from appliance.box.supervise import require_free


def test_a_taken_port_is_named_with_the_flag_that_changes_it() -> None:
    """Without this a stranger on the port would pass for a ready role."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RuntimeError, match=rf"{listen} cannot be used: Address already in use.*--listen HOST:PORT"):
            require_free(listen, "--listen")


def test_a_free_port_passes_also_right_after_use() -> None:
    """A port whose last listener is gone can be used again at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    require_free(listen, "--listen")
