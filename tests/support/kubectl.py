"""Driving a real kubectl against a box."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from boxes import environment


class Kubectl:
    """kubectl bound to one kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self._binary = os.environ.get("APPLIANCE_TEST_KUBECTL", "kubectl")
        self._kubeconfig = kubeconfig

    def try_(self, *arguments: str, stdin: str | None = None, env: dict[str, str] | None = None, timeout: float = 60
             ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run a command and return what came of it, whatever that is."""
        return subprocess.run(
            [self._binary, "--kubeconfig", str(self._kubeconfig), *arguments],
            env={**environment(), **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def __call__(self, *arguments: str, stdin: str | None = None, env: dict[str, str] | None = None, timeout: float = 60
                 ) -> str:  # fmt: skip
        """Run a command that must succeed and return its standard output."""
        done = self.try_(*arguments, stdin=stdin, env=env, timeout=timeout)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout
