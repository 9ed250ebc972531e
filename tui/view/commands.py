"""The commands that are run inside a sandbox to look at it. They change nothing; paths are arguments, never script."""

from __future__ import annotations

from typing import Final

PROCESSES: Final = ["/bin/sh", "-c", "ps -eo pid,user,pcpu,rss,etime,args 2>/dev/null || ps"]


def listing(path: str) -> list[str]:
    """Lists a directory, the home directory without a path."""
    return ["/bin/sh", "-c", 'cd -- "${1:-${HOME:-/}}" && pwd && ls -la', "sh", path]
