"""Text that may stand for bytes which are no UTF-8: names of files.

Inside, such bytes are lone surrogates, as Python's ``os`` has them, so that the same name finds the same file. Outside,
JSON and protobuf know only characters: each of them is told as U+FFFD, and the rest of the answer is not lost for it.
"""

from __future__ import annotations

from typing import Any

import msgspec


def encode_json(value: Any) -> bytes:
    """``value`` as JSON. Costs nothing where every text is one."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_readable(msgspec.to_builtins(value)))


def _readable(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        case list():
            return [_readable(item) for item in value]
        case dict():
            return {_readable(key): _readable(item) for key, item in value.items()}
        case _:
            return value
