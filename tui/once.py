"""``--once``: the tables as text or JSON, for scripts and for terminals that cannot show a screen."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from tui.feed.source import Source
from tui.model.alerts import alerts
from tui.model.claims import STAGES
from tui.view.cells import Glyphs, clean
from tui.view.columns import Ink, fit
from tui.view.tables import CLAIMS, TABLES, Table

WIDTH = 160
"""Columns of the text form."""


def as_text(source: Source, glyphs: Glyphs, width: int = WIDTH) -> str:
    """Every table with its title, and the alerts."""
    now = source.now()
    parts = [_table(table, source, glyphs, now, width) for table in TABLES.values()]
    found = alerts(source.world, source.world.pool_rows(now), source.health(), now)
    told = [f"  {clean(one.title)}: {clean(one.detail)}" for one in found] or ["  none"]
    return "\n\n".join([*parts, "\n".join(["ALERTS", *told])])


def _table(table: Table, source: Source, glyphs: Glyphs, now: float, width: int) -> str:
    rows = sorted(table.rows(source.world, now), key=lambda row: row.key)
    columns = fit(table.columns, width)
    lines = [f"{table.title.upper()} ({len(rows)})"]
    if rows and table is CLAIMS:
        lines[0] += "  spent on: " + ", ".join(" ".join(pair) for pair in zip(glyphs.stages, STAGES, strict=True))
    if rows:
        titles = (one.title.rjust(wide) if one.right else one.title.ljust(wide) for one, wide in columns)
        lines.append(" ".join(titles).rstrip())
    for row in rows:
        cells = []
        for column, wide in columns:
            words = clean("".join(words for words, _ in column.cell(row, Ink(now, glyphs, wide))))[:wide]
            cells.append(words.rjust(wide) if column.right else words.ljust(wide))
        lines.append(" ".join(cells).rstrip())
    return "\n".join(lines)


def as_json(source: Source) -> str:
    """Every table as a list of objects, and the alerts; instants are seconds since the epoch."""
    now = source.now()
    document: dict[str, Any] = {
        name: [_plain(row) for row in sorted(table.rows(source.world, now), key=lambda row: row.key)]
        for name, table in TABLES.items()
    }
    found = alerts(source.world, source.world.pool_rows(now), source.health(), now)
    document["alerts"] = [{"level": one.level, "title": one.title, "detail": one.detail} for one in found]
    document["watches"] = [{"kind": one.plural, "state": one.state, "detail": one.detail} for one in source.health()]
    return json.dumps({"at": now, **document}, indent=2)


def _plain(row: Any) -> dict[str, Any]:
    found = {one.name: getattr(row, one.name) for one in fields(row) if one.name not in ("source", "text", "key")}
    return {"namespace": row.key[0], "name": row.key[1], **found}
