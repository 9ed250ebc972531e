"""Machines outside a box, without internet: addresses of documentation networks in a network namespace of the test's.

The namespace is joined to the box by one veth pair; in it an HTTP server answers on every address with the address it
was asked at.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network

_SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("you reached " + self.connection.getsockname()[0] + "\\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("0.0.0.0", 80), Handler)
print("serving", flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def outside(addresses: Sequence[str], link: IPv4Network) -> Iterator[None]:
    """Hosts with these addresses on port 80, reachable from the box over ``link`` (a /30), for the block."""
    name = f"out{os.getpid() % 100000}"
    near, far = (str(one) for one in link.hosts())
    with contextlib.ExitStack() as stack:
        _ip("netns", "add", name)
        stack.callback(_ip, "netns", "delete", name)
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        stack.callback(_ip, "link", "delete", name)
        _ip("addr", "add", f"{near}/{link.prefixlen}", "dev", name)
        _ip("link", "set", name, "up")
        for command in (
            ("addr", "add", f"{far}/{link.prefixlen}", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "via", near),
        ):
            _ip("-n", name, *command)
        for address in addresses:
            _ip("-n", name, "addr", "add", f"{address}/32", "dev", "lo")
            _ip("route", "add", f"{address}/32", "via", far)
        command = ["ip", "netns", "exec", name, sys.executable, "-c", _SERVER]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        stack.callback(server.wait)
        stack.callback(server.kill)
        assert server.stdout is not None
        with server.stdout:
            assert server.stdout.readline() == "serving\n"
            yield


def _ip(*arguments: str) -> None:
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    subprocess.run(["ip", *arguments], check=True, env={**os.environ, "PATH": path})
