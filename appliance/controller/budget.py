"""Numbers that may be percentages, as in ``maxUnavailable``."""

from __future__ import annotations

import math


def resolve(value: int | str, total: int, field: str) -> int:
    """``value`` of ``total``: a count, or a percentage rounded up, so that a small pool still moves.

    Raises ValueError naming ``field`` for anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise ValueError(f"{field}: expected a number >= 0 or a percentage, got {value}")
        return value
    text = str(value).strip()
    digits = text.removesuffix("%")
    if not digits.isdecimal():
        raise ValueError(f"{field}: expected a number >= 0 or a percentage such as 20%, got {value!r}")
    return math.ceil(int(digits) * total / 100) if text.endswith("%") else int(digits)
