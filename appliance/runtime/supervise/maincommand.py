"""The main command of the container: the program the pod's author wants to run beside the runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from appliance.runtime.supervise import child
from appliance.runtime.users import Users


@dataclass(frozen=True, kw_only=True)
class MainCommand:
    """What to execute, as whom and where. Output goes to the supervisor's own stdout and stderr."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment."""
    cwd: str = "/"
    user: str | None = None
    """Account name; None: the supervisor's own."""
    uid: int | None = None
    """Used when ``user`` is None, for pods that give a number (``securityContext.runAsUser``)."""
    gid: int | None = None

    def start(self) -> int:
        """Fork and execute; returns the pid. What goes wrong is an exit status of 126, 127 or 70, as in a shell."""
        return child.fork(self._run)

    def _run(self) -> None:
        os.setsid()
        child.reset_signals()
        child.close_descriptors()
        os.chdir(self.cwd)
        self._become()
        child.exec_or_exit(self.argv, self.env)

    def _become(self) -> None:
        if self.user is not None:
            child.become(Users().get(self.user))
            return
        if self.gid is not None and self.gid != os.getegid():
            os.setgroups([])
            os.setresgid(self.gid, self.gid, self.gid)
        if self.uid is not None and self.uid != os.geteuid():
            os.setresuid(self.uid, self.uid, self.uid)
