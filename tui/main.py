"""The role: from settings to a running screen, a printed table, or a replay."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from appliance.kube import errors
from appliance.kube.cluster import Cluster
from tui.feed.live import LiveSource
from tui.feed.record import Head, Recorder, read_recording
from tui.feed.replay import Player
from tui.feed.source import Source
from tui.model.change import Change
from tui.settings import TuiSettings, WebSettings
from tui.view.cells import ASCII, PLAIN, UNICODE, Glyphs

ASCII_LOCALES = ("C", "POSIX")
ONCE_TIMEOUT = 30.0
"""Seconds for the first lists with ``--once``."""


def run(settings: TuiSettings) -> int:
    """Run the flight deck and return the exit code.

    Raises ValueError for an unusable recording or configuration, RuntimeError when ``--once`` gets no answer.
    """
    if settings.no_color:
        os.environ["NO_COLOR"] = "1"
    if settings.web is not None:
        return _web(settings, settings.web)
    with ExitStack() as stack:
        recorder = stack.enter_context(_recorder(settings.record)) if settings.record is not None else None
        source: Source
        if settings.replay is not None:
            head, changes = _recording(settings.replay)
            source = Player(changes, head.label or settings.replay.name, time.monotonic)
        else:
            source = LiveSource(settings.kube, settings.namespace, tap=recorder)
        if settings.once is not None:
            return asyncio.run(_once(source, settings.once))
        return _screen(source, settings)


def _recorder(path: Path) -> Recorder:
    try:
        return Recorder(path)
    except OSError as error:
        raise ValueError(f"--record {path}: {error.strerror}") from error


def _recording(path: Path) -> tuple[Head, list[Change]]:
    try:
        return read_recording(path)
    except OSError as error:
        raise ValueError(f"--replay {path}: {error.strerror}") from error


def _web(settings: TuiSettings, web: WebSettings) -> int:
    from tui import configuration
    from tui.web.server import serve

    configuration.load(settings.config)  # a mistake in it is better told here than to every visitor
    asyncio.run(serve(web, lambda words: print(words, flush=True)))  # noqa: T201 - the address, for a person
    return 0


def _screen(source: Source, settings: TuiSettings) -> int:
    from textual.theme import BUILTIN_THEMES

    from tui import configuration
    from tui.app import Deck
    from tui.memory import settle
    from tui.widgets.plain import draw_plain_bars

    if "TEXTUAL_DRIVER" not in os.environ and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ValueError("this is no terminal: --once prints the tables, --web shows the deck in a browser")
    conf = configuration.load(settings.config)
    if conf.theme and conf.theme not in BUILTIN_THEMES:
        raise ValueError(f"{settings.config}: theme: unknown {conf.theme!r}; known are {', '.join(BUILTIN_THEMES)}")
    if glyphs() is ASCII:
        draw_plain_bars()
    deck = Deck(
        source,
        readonly=settings.readonly,
        recording=settings.record is not None,
        glyphs=glyphs(),
        configuration=conf,
        watched=settings.namespace,
    )
    settle()
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, [logging.NullHandler()]  # standard error is the screen now
    try:
        deck.run()
    finally:
        root.handlers = handlers
    return deck.return_code or 0


async def _once(source: Source, form: str) -> int:
    from tui.once import as_json, as_text

    # Nothing is coloured there, so what colours tell is told by letters.
    letters = PLAIN if glyphs() is UNICODE else glyphs()
    if isinstance(source, Player):
        source.seek(source.end)
        print(as_json(source) if form == "json" else as_text(source, letters))  # noqa: T201 - that is what it is for
        return 0
    assert isinstance(source, LiveSource)
    try:
        source.cluster = await Cluster.connect(source.settings)
    except errors.ConfigError as error:
        raise RuntimeError(str(error)) from error
    feeding = asyncio.create_task(source.run())
    try:
        await source.synced(ONCE_TIMEOUT)
        await source.probed(ONCE_TIMEOUT)
    except TimeoutError:
        detail = next((one.detail for one in source.health() if one.detail), "no answer")
        raise RuntimeError(f"the cluster did not answer in {ONCE_TIMEOUT:g} s: {detail}") from None
    finally:
        text = as_json(source) if form == "json" else as_text(source, letters)
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding
    print(text)  # noqa: T201 - that is what it is for
    return 0


def glyphs(env: Mapping[str, str] = os.environ, encoding: str | None = None) -> Glyphs:
    """Unicode where the terminal has it; bars that need no colours where there are none.

    Python itself writes UTF-8 also in the C locale (PEP 538, PEP 540), so the encoding alone does not tell: an operator
    who says ``LANG=C`` wants ASCII. Without any locale, as in many containers, the encoding decides. A browser has
    everything.
    """
    coerced = env.get("LC_CTYPE") == "C.UTF-8" and env.get("LANG") in ASCII_LOCALES
    locale = env.get("LC_ALL") or ("" if coerced else env.get("LC_CTYPE")) or env.get("LANG") or ""
    codeset = locale.partition(".")[2] or ("ascii" if locale in ASCII_LOCALES else "")
    words = [one.lower().replace("-", "") for one in (codeset, encoding or sys.stdout.encoding or "ascii") if one]
    browser = "web_driver" in env.get("TEXTUAL_DRIVER", "")
    if not browser and (env.get("TERM") == "linux" or not all(word.startswith("utf") for word in words)):
        return ASCII
    return PLAIN if env.get("NO_COLOR") else UNICODE
