"""Names of container images: the full form of a short one, and what a name may look like."""

from __future__ import annotations

import re

_REFERENCE = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?/)?"  # registry
    r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*"  # path
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"  # tag
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?"  # digest
)
"""Grammar of the distribution specification (github.com/distribution/reference), which the kubelet applies too."""


def normal(name: str) -> str:
    """``python`` -> ``docker.io/library/python:latest``, as every registry client writes names."""
    head, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif "." not in head and ":" not in head and head != "localhost":
        name = f"docker.io/{name}"
    last = name.rpartition("/")[2]
    return name if ":" in last or "@" in last else f"{name}:latest"


def is_reference(name: str) -> bool:
    """Whether a container runtime would take it as the name of an image."""
    return len(name) <= 255 and _REFERENCE.fullmatch(name) is not None
