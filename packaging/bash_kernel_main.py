"""Entry of the bash kernel that kernels.sh installs: bash_kernel without pexpect's pauses.

pexpect sleeps 50 ms before every line it types, for programs that switch the terminal's echo off late. This shell's
terminal never echoes, so the pauses (two seconds at start, 0.1 s a cell) buy nothing.
"""

from __future__ import annotations

from typing import Any

import pexpect
from bash_kernel.kernel import BashKernel
from ipykernel.kernelapp import IPKernelApp


class PromptSpawn(pexpect.spawn):  # type: ignore[misc]
    """A pexpect child that is typed to at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.delaybeforesend = None


if __name__ == "__main__":
    pexpect.spawn = PromptSpawn
    IPKernelApp.launch_instance(kernel_class=BashKernel)
