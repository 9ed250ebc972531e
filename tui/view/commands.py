"""The commands that are run inside a sandbox to look at it. They change nothing; paths are arguments, never script."""

from __future__ import annotations

from typing import Final

PROCESSES: Final = ["/bin/sh", "-c", "ps -eo pid,user,pcpu,rss,etime,args 2>/dev/null || ps"]


def listing(path: str) -> list[str]:
    """Lists a directory; without a path the home of E2B's user, else that of whom the container runs as."""
    script = '[ -n "$1" ] || { [ -d /home/user ] && set -- /home/user; }; cd -- "${1:-${HOME:-/}}" && pwd && ls -la'
    return ["/bin/sh", "-c", script, "sh", path]
