"""Kubernetes quantities (``500m``, ``1Gi``, ``1e3``) as numbers."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache

_SUFFIX = {
    **{name: Decimal(1024) ** power for power, name in enumerate(("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))},
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(1000),
    **{name: Decimal(10) ** (3 * power) for power, name in enumerate(("M", "G", "T", "P", "E"), start=2)},
}
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?)([KMGTPE]i|[numkMGTPE])?", re.ASCII)


@lru_cache(maxsize=1024)
def quantity(text: str) -> Decimal:
    """The number that ``text`` stands for. Raises ValueError for anything that is no quantity."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"expected a quantity such as 500m or 1Gi, got {text!r}")
    return Decimal(match[1]) * _SUFFIX[match[2] or ""]
