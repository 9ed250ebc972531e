"""Recordings: the change stream as gzip-compressed JSON lines, so that an incident can be sent to a colleague.

The first line names the format. The file is flushed as it is written and a recording that was cut off is readable up
to the cut. Values of environment variables are replaced by stars: a recording is meant to be passed on.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec

from tui.model.change import BY_PLURAL, Change

FORMAT: Final = "appliance-tui-record"
VERSION: Final = 1
FLUSH_PERIOD: Final = 1.0
"""Seconds of the recording's own time between two flushes."""


class Head(msgspec.Struct):
    """The first line."""

    format: str
    version: int
    label: str = ""


class Line(msgspec.Struct):
    """One change; ``o`` None: deleted."""

    at: float
    k: str
    ns: str
    n: str
    o: Any = None


_encode = msgspec.json.Encoder().encode
_head = msgspec.json.Decoder(Head).decode
_line = msgspec.json.Decoder(Line).decode


class Recorder:
    """Writes changes to a file (mode 0600); use as a context manager, call it with every change."""

    def __init__(self, path: Path, label: str = "") -> None:
        path.touch(mode=0o600)
        self._file = gzip.open(path, "wb", compresslevel=4)  # noqa: SIM115 - closed by __exit__
        self._flushed = 0.0
        self._file.write(_encode(Head(FORMAT, VERSION, label)) + b"\n")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()

    def __call__(self, change: Change) -> None:
        """Write one change."""
        body = None if change.new is None else redacted(msgspec.to_builtins(change.new))
        line = Line(change.at, change.plural, *change.key, body)
        self._file.write(_encode(line) + b"\n")
        if change.at - self._flushed > FLUSH_PERIOD:
            self._file.flush()
            self._flushed = change.at


def redacted(value: Any) -> Any:
    """The object without the values of environment variables, at whatever depth."""
    if isinstance(value, dict):
        return {name: _no_values(item) if _is_env(name, item) else redacted(item) for name, item in value.items()}
    if isinstance(value, list):
        return [redacted(item) for item in value]
    return value


def _is_env(name: str, item: Any) -> bool:
    return (name == "env" and isinstance(item, list)) or (name in ("envVars", "stringData") and isinstance(item, dict))


def _no_values(env: Any) -> Any:
    if isinstance(env, dict):
        return dict.fromkeys(env, "***")
    return [{**one, "value": "***"} if isinstance(one, dict) and "value" in one else one for one in env]


def read_recording(path: Path) -> tuple[Head, list[Change]]:
    """The head and every change of a recording, up to where it was cut off if it was.

    Raises ValueError when the file is no recording, OSError when it cannot be read.
    """
    lines = _lines(path)
    try:
        head = _head(next(lines, b""))
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: not a recording of the flight deck") from error
    if head.format != FORMAT or head.version != VERSION:
        raise ValueError(f"{path}: format {head.format!r} version {head.version}, expected {FORMAT!r} {VERSION}")
    return head, list(_changes(lines))


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as file:
        try:
            for line in file:
                if line.endswith(b"\n"):
                    yield line
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return


def _changes(lines: Iterator[bytes]) -> Iterator[Change]:
    for raw in lines:
        line = _line(raw)
        kind = BY_PLURAL.get(line.k)
        if kind is not None:
            new = None if line.o is None else msgspec.convert(line.o, kind.struct)
            yield Change(line.at, line.k, (line.ns, line.n), new)
