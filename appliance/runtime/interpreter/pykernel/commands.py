"""``!command`` in a cell: a shell on a pseudo-terminal, its output streamed.

IPython's own way takes 100 ms per command, which its terminal library sleeps. A terminal is kept because it makes
programs write line by line; its translation of newlines is switched off. Where no terminal can be had, a pipe serves.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import subprocess
import sys
import termios
from typing import Final

_CHUNK: Final = 64 * 1024
_GRACE: Final = 1.0
"""Seconds an interrupted command gets before it is killed."""


def run(command: str) -> int:
    """Run ``command`` in ``sh``, its output and errors to ``sys.stdout`` as they come.

    Returns the exit status, or minus the signal that killed it. An interrupt is passed on to the command;
    the status is then that of its end.
    """
    reading, writing = _channel()
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, start_new_session=True
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    try:
        _copy(reading)
    except KeyboardInterrupt:
        _interrupt(process)
    finally:
        os.close(reading)
    return process.wait()


def _channel() -> tuple[int, int]:
    try:
        reading, writing = os.openpty()
    except OSError:
        return os.pipe()
    modes = termios.tcgetattr(writing)
    modes[1] &= ~termios.OPOST
    termios.tcsetattr(writing, termios.TCSANOW, modes)
    return reading, writing


def _copy(reading: int) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        try:
            data = os.read(reading, _CHUNK)
        except OSError:  # EIO: the last writer closed the terminal
            return
        if not data:
            return
        sys.stdout.write(decoder.decode(data))


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    for signum in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
            return
