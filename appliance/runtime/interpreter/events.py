"""Jupyter messages as lines of the interpreter's event stream (contract §3.3). Pure: no sockets, no clock.

A line is a JSON object without absent members, ended by a newline. ``Translator`` holds what one execution must
remember: that an error is told once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

_ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")
_MEMBERS: Final = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
    "e2b/data": "data",
    "e2b/chart": "chart",
}
_encode: Final = msgspec.json.Encoder(order=None).encode

_LINE_BREAKS: Final = tuple((chr(n).encode(), b"\\u%04x" % n) for n in (0x85, 0x2028, 0x2029))

END: Final = b'{"type": "end_of_execution"}\n'
"""The last line of every stream, literally."""
KEEPALIVE: Final = b'{"type": "keepalive"}\n'


def line(event: Mapping[str, Any]) -> bytes:
    """One event as a line of the stream.

    Clients split lines as Unicode does, also at U+0085, U+2028 and U+2029, so these are escaped like the newline.
    """
    data = _encode(event)
    for raw, escaped in _LINE_BREAKS:
        if raw in data:
            data = data.replace(raw, escaped)
    return data + b"\n"


def error(name: str, value: str, traceback: str = "") -> dict[str, Any]:
    """An ``error`` event."""
    return {"type": "error", "name": name, "value": value, "traceback": traceback}


def result(bundle: Mapping[str, Any], *, main: bool) -> dict[str, Any]:
    """A ``result`` event of a MIME bundle; types without a member of their own go to ``extra``."""
    event: dict[str, Any] = {"type": "result"}
    extra: dict[str, Any] = {}
    for mime, value in bundle.items():
        member = _MEMBERS.get(mime)
        if member is None:
            extra[mime] = value
        elif value is not None:
            event[member] = _unquoted(value) if member == "text" and isinstance(value, str) else value
    event["extra"] = extra
    event["is_main_result"] = main
    return event


def _unquoted(text: str) -> str:
    """``text`` without the pair of equal quotes around it: a string's repr reads as the string."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


def plain(text: str) -> str:
    """``text`` without terminal escape sequences."""
    return _ANSI.sub("", text) if "\x1b" in text else text


class Translator:
    """Messages of one execution, in order, to events."""

    def __init__(self) -> None:
        self._failed = False

    def event(self, kind: str, content: Mapping[str, Any], date: str) -> dict[str, Any] | None:
        """The event of an iopub message or an ``execute_reply``; None when there is nothing to tell.

        ``date`` is the message's time in ISO 8601.
        """
        match kind:
            case "stream":
                return {"type": content["name"], "text": content["text"], "timestamp": date}
            case "execute_result" | "display_data":
                return result(content["data"], main=kind == "execute_result")
            case "execute_input":
                return {"type": "number_of_executions", "execution_count": content["execution_count"]}
            case "error":
                return self._error(content)
            case "execute_reply":
                return self._reply(content)
            case _:
                return None

    def _error(self, content: Mapping[str, Any]) -> dict[str, Any] | None:
        if self._failed:
            return None
        self._failed = True
        traceback = plain("\n".join(content.get("traceback") or ()))
        return error(str(content.get("ename", "")), plain(str(content.get("evalue", ""))), traceback)

    def _reply(self, content: Mapping[str, Any]) -> dict[str, Any] | None:
        if content.get("status") == "error":
            return self._error(content)
        if content.get("status") in ("abort", "aborted") and not self._failed:
            self._failed = True
            return error("ExecutionAborted", "Execution was aborted")
        return None
