"""The compatibility table as data and as Markdown.

``results.json`` holds what the last full run saw; docs/compatibility.md and the summary in README.md are written from
it. A cell is ``ok``, ``absent`` (the release has no such feature) or, in one line, what happens instead.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results.json"
PAGE = ROOT / "docs" / "compatibility.md"
README = ROOT / "README.md"
MARKS = ("<!-- compatibility -->\n", "<!-- /compatibility -->\n")
"""The summary in README.md stands between these."""

Outcome = str
Cells = dict[str, dict[str, dict[str, Outcome]]]
"""Client → version → feature → outcome."""

SECTIONS = {
    "SDK": ("Python e2b", "JavaScript e2b"),
    "Code interpreter": ("Python e2b-code-interpreter", "JavaScript @e2b/code-interpreter"),
    "Command line": ("@e2b/cli",),
}

SHORT = {
    "Python e2b": "Python", "JavaScript e2b": "JS", "Python e2b-code-interpreter": "Python",
    "JavaScript @e2b/code-interpreter": "JS", "@e2b/cli": "CLI",
}  # fmt: skip
"""What a column's head calls a client; the text above the table has the full name."""

_PROXY = "400: network.egressProxy is not supported by this server"
EXPLAINED = {
    f"SandboxException: {_PROXY}": _PROXY,
    f"SandboxError: {_PROXY}": _PROXY,
    "NotFoundError: no such endpoint: POST /files": "files need a domain: this release does not name the sandbox there",
}
"""What a client says → what a reader should know."""


def order(version: str) -> tuple[int, ...]:
    """A version as numbers, to sort by."""
    return tuple(int(part) for part in version.split("."))


def read() -> Cells:
    """What the last full run saw."""
    found: Cells = json.loads(RESULTS.read_text())
    return found


def merge(before: Cells, now: Cells) -> Cells:
    """``before`` with the cells that were run again."""
    for client, versions in now.items():
        for version, features in versions.items():
            before.setdefault(client, {}).setdefault(version, {}).update(features)
    return before


def regressions(before: Cells, now: Cells) -> list[str]:
    """One line for each cell that was ✓ and is so no longer; releases that were not run are left out."""
    lost = []
    for client, versions in now.items():
        for version, features in versions.items():
            for feature, outcome in before.get(client, {}).get(version, {}).items():
                seen = features.get(feature, "was not run")
                if outcome == "ok" and seen != "ok":
                    lost.append(f"{client} {version}: {feature}: {seen}")
    return lost


def lost(before: Cells, now: Cells, pinned: dict[str, str]) -> bool:
    """Whether a release directory (client → version) has lost a cell."""
    own = {client: {version: now[client][version]} for client, version in pinned.items()}
    return bool(regressions(before, own))


def arranged(cells: Cells) -> Cells:
    """The cells by client and release as the table has them."""
    clients = [client for section in SECTIONS.values() for client in section if client in cells]
    return {
        client: {version: cells[client][version] for version in sorted(cells[client], key=order)} for client in clients
    }


def render(cells: Cells) -> str:
    """The tables and their footnotes."""
    notes: list[str] = []
    parts = []
    for title, clients in SECTIONS.items():
        columns = [(client, version) for client in clients for version in sorted(cells.get(client, {}), key=order)]
        if columns:
            parts.append(f"## {title}\n\n{_section(cells, columns, notes)}")
    if notes:
        parts.append("\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1)))
    return "\n\n".join(parts)


def _section(cells: Cells, columns: list[tuple[str, str]], notes: list[str]) -> str:
    features: dict[str, None] = {}
    for client, version in columns:
        features |= dict.fromkeys(cells[client][version])
    names = [f"{SHORT[client]} {version}" for client, version in columns]
    lines = ["| feature | " + " | ".join(names) + " |", "|---" * (len(columns) + 1) + "|"]
    for feature in features:
        row = [_cell(cells[client][version].get(feature), notes) for client, version in columns]
        lines.append(f"| {feature} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def _cell(outcome: Outcome | None, notes: list[str]) -> str:
    if outcome is None or outcome == "absent":
        return "–"
    if outcome == "ok":
        return "✓"
    outcome = EXPLAINED.get(outcome, outcome)
    if outcome not in notes:
        notes.append(outcome)
    return f"[{notes.index(outcome) + 1}]"


def summary(cells: Cells) -> str:
    """One line for each client: which releases, how many of the features they have work."""
    lines = ["| client | releases | features that work, of those the release has |", "|---|---|---|"]
    for client in (client for clients in SECTIONS.values() for client in clients):
        versions = cells[client]
        ordered = sorted(versions, key=order)
        counts = []
        for version in ordered:
            has = [outcome for outcome in versions[version].values() if outcome != "absent"]
            counts.append(f"{has.count('ok')}/{len(has)}")
        lines.append(f"| {client} | {', '.join(ordered)} | {', '.join(counts)} |")
    return "\n".join(lines)


def write(cells: Cells) -> None:
    """Keep the results, in the order of the table whatever was run first, and write both documents from them."""
    RESULTS.write_text(json.dumps(arranged(cells), indent=1, ensure_ascii=False) + "\n")
    page = PAGE.read_text()
    PAGE.write_text(_between(page, render(cells)))
    README.write_text(_between(README.read_text(), summary(cells)))


def _between(text: str, new: str) -> str:
    start, end = (re.escape(mark) for mark in MARKS)
    return re.sub(f"({start}).*?({end})", lambda match: f"{match[1]}\n{new}\n\n{match[2]}", text, flags=re.DOTALL)
