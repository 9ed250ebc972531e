"""How a client's path becomes a path of the sandbox.

Empty: the default working directory, or the home. ``~`` and ``~/x``: the home. Absolute: kept exactly as sent,
without cleaning, because signatures and listings compare it. Anything else: relative to the *home* (not the working
directory), cleaned.
"""

from __future__ import annotations

import os.path

from appliance.runtime.users import User


class BadPath(ValueError):
    """The path cannot be meant."""


def resolve(path: str, user: User, default_workdir: str | None) -> str:
    """The absolute path that ``path`` means for ``user``. Raises ``BadPath``."""
    if "\0" in path:
        raise BadPath("path: contains a zero byte")
    if not path:
        path = default_workdir or user.home
    if path.startswith("~"):
        if path != "~" and not path.startswith("~/"):
            raise BadPath(f"path {path!r}: the home of another user cannot be named with ~, give its absolute path")
        return os.path.normpath(user.home + path[1:])
    if path.startswith("/"):
        return path
    return os.path.normpath(f"{user.home}/{path}")
