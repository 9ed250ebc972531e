"""Findings and their report, for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

OK, WARN, FAIL, SKIP = "ok", "warn", "fail", "skip"


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    check: str
    """``machine.python``, ``cluster.permissions``, …"""
    status: str
    """``ok``; ``warn``: works, but not all or not for long; ``fail``: does not work; ``skip``: not looked at."""
    message: str
    mend: str = ""
    """The command, or the change, that mends it; never empty where something is wrong."""


def ok(check: str, message: str) -> Finding:
    """Nothing is wrong."""
    return Finding(check, OK, message)


def warn(check: str, message: str, mend: str) -> Finding:
    """It works, but not all of it, or not for long."""
    return Finding(check, WARN, message, mend)


def fail(check: str, message: str, mend: str) -> Finding:
    """It does not work."""
    return Finding(check, FAIL, message, mend)


def skip(check: str, message: str) -> Finding:
    """Could not be looked at, and why."""
    return Finding(check, SKIP, message)


def exit_code(findings: Sequence[Finding]) -> int:
    """1 when something fails, else 0."""
    return int(any(finding.status == FAIL for finding in findings))


def as_json(findings: Sequence[Finding]) -> str:
    """One object with every finding."""
    return json.dumps({"ok": not exit_code(findings), "findings": [asdict(one) for one in findings]}, indent=2)


def as_text(findings: Sequence[Finding]) -> str:
    """One line a finding, and below it what mends it."""
    lines = []
    for one in findings:
        lines.append(f"{one.status:<5} {one.check}: {one.message}")
        if one.mend:
            lines.append(f"      mend: {one.mend}")
    counts = [f"{sum(one.status == status for one in findings)} {status}" for status in (OK, WARN, FAIL, SKIP)]
    return "\n".join([*lines, ", ".join(counts)])
