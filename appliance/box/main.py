"""``appliance --role=all``, from the first line it prints to the last process it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shlex
import sys
from pathlib import Path
from typing import TextIO

from appliance.box import pool
from appliance.box.children import program
from appliance.box.layout import Layout
from appliance.box.supervise import Box, client_domain, running, until_signal
from appliance.config import BoxSettings, KubeSettings
from appliance.kube.cluster import Cluster

logger = logging.getLogger(__name__)

WARM_PATIENCE = 120.0
"""Seconds after which the start goes on with a pool that is not warm yet, saying so."""

PROGRAM = """\
from e2b_code_interpreter import Sandbox

with Sandbox.create(template="code-interpreter", timeout=300) as sandbox:
    print(sandbox.run_code("sum(range(101))").text)
"""


def exports(layout: Layout, api_url: str, domain: str | None, authority: str | None) -> str:
    """The shell lines that point the E2B SDKs, and kubectl, at this box.

    With ``authority``, the directory of the box's own certificates, also the lines that make clients trust it.
    """
    key = layout.api_key.read_text().strip()
    host = domain or f"localhost:{api_url.rsplit(':', 1)[1]}"
    lines = [f"E2B_API_URL={api_url}", f"E2B_SANDBOX_URL={api_url}", f"E2B_API_KEY={key}"]
    lines += [f"E2B_DOMAIN={host}", f"E2B_API_TOKEN={key}"]
    if authority:
        lines += [f"SSL_CERT_FILE={authority}/bundle.crt", f"NODE_EXTRA_CA_CERTS={authority}/ca.crt"]
    return "\n".join(f"export {line}" for line in lines)


def environment(data_dir: Path) -> str:
    """What ``appliance env`` prints for the box on ``data_dir``.

    Raises:
        FileNotFoundError: no box is running there.
    """
    layout = Layout(data_dir)
    endpoints = json.loads(layout.endpoints.read_text())
    return exports(layout, endpoints["api"], endpoints["domain"], endpoints["authority"])


async def run(settings: BoxSettings, *, replicas: int = 0, out: TextIO = sys.stdout) -> int:
    """Run the box until SIGINT or SIGTERM.

    Args:
        settings: see :class:`BoxSettings`.
        replicas: size of the default pool; 0 makes none.
        out: receives progress and the lines to paste.

    Returns:
        0 after an orderly stop.

    Raises:
        AlreadyRunning: another supervisor holds the data directory.
        RuntimeError: a role did not come up.
    """
    stop = asyncio.create_task(until_signal())
    serve = asyncio.create_task(_serve(settings, replicas, out))
    await asyncio.wait({stop, serve}, return_when=asyncio.FIRST_COMPLETED)
    if not serve.done():
        print("\nstopping: sandboxes, then everything the box made for them …", file=out, flush=True)
        serve.cancel()
    stop.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serve
    print("stopped.", file=out, flush=True)
    return 0


async def _serve(settings: BoxSettings, replicas: int, out: TextIO) -> None:
    print(f"starting on {settings.data_dir} …", file=out, flush=True)
    async with running(settings) as box:
        print(f"API and sandboxes: {box.api_url}    kubeconfig: {box.kubeconfig}", file=out, flush=True)
        if replicas:
            await _warm_up(box, replicas, out)
        print(_welcome(box), file=out, flush=True)
        await asyncio.Event().wait()


async def _warm_up(box: Box, replicas: int, out: TextIO) -> None:
    cluster = await Cluster.connect(KubeSettings(kubeconfig=box.kubeconfig, user_agent="appliance-all"))
    try:
        made = await pool.ensure(cluster, replicas)
        print(f"pool {pool.NAME}: {'created' if made else 'found'}, warming …", file=out, flush=True)
        await asyncio.wait_for(pool.warm(cluster, _Progress(out)), WARM_PATIENCE)
    except TimeoutError:
        print(
            f"\nthe pool is not warm after {WARM_PATIENCE:.0f} s; going on. "
            f"`{command(box.settings.data_dir)} status` and {box.layout.logs} say why.",
            file=out,
            flush=True,
        )
    finally:
        await cluster.close()


class _Progress:
    """Prints ``available/wanted``, on one line in a terminal and as one line per change elsewhere."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last = (-1, -1)

    def __call__(self, available: int, wanted: int) -> None:
        if (available, wanted) == self._last:
            return
        self._last = (available, wanted)
        line = f"  warm: {available}/{wanted}"
        done = available >= wanted
        if self._out.isatty():
            print(f"\r{line}", end="\n" if done else "", file=self._out, flush=True)
        else:
            print(line, file=self._out, flush=True)


def command(data_dir: Path) -> str:
    """How this product is called again from a shell, for the box on ``data_dir``."""
    called = os.environ.get("APPLIANCE_COMMAND") or shlex.join(program())
    return called if data_dir == BoxSettings().data_dir else f"{called} --data-dir {shlex.quote(str(data_dir))}"


def _welcome(box: Box) -> str:
    return (
        f'\nready. Paste into a shell, or: eval "$({command(box.settings.data_dir)} env)"\n\n'
        f"{exports(box.layout, box.api_url, client_domain(box.settings), box.authority)}\n\n"
        f"then, after `pip install e2b-code-interpreter`, try:\n\n{PROGRAM}\n"
        f"Ctrl-C stops everything."
    )
