"""``tui.toml``: theme, columns and keys of one operator.

::

    theme = "textual-light"
    [columns]
    sandboxes = ["name", "state", "end", "reason"]
    [keys]
    kill = "ctrl+x"
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tui.act.table import BY_NAME
from tui.view.tables import TABLES


@dataclass(frozen=True)
class Configuration:
    """What the file says; everything has a default."""

    theme: str = ""
    columns: dict[str, list[str]] = field(default_factory=dict)
    """Names of columns in order, by table."""
    keys: dict[str, str] = field(default_factory=dict)
    """Keys, comma-separated, by action."""


def load(path: Path) -> Configuration:
    """Read the file; without one everything is as it comes. Raises ValueError that names what is wrong."""
    try:
        found = tomllib.loads(path.expanduser().read_text())
    except FileNotFoundError:
        return Configuration()
    except (tomllib.TOMLDecodeError, OSError) as error:
        raise ValueError(f"{path}: {error}") from error
    return parse(found, str(path))


def parse(found: dict[str, Any], where: str) -> Configuration:
    """The configuration in a parsed file. Raises ValueError naming the unknown word and the known ones."""
    _known(found, ("theme", "columns", "keys"), where)
    columns, keys = found.get("columns", {}), found.get("keys", {})
    _known(columns, tuple(TABLES), f"{where}: columns")
    for table, wanted in columns.items():
        names = tuple(column.name for column in TABLES[table].columns)
        _known(dict.fromkeys(wanted), names, f"{where}: columns.{table}")
    _known(keys, tuple(BY_NAME), f"{where}: keys")
    return Configuration(str(found.get("theme", "")), columns, {name: str(value) for name, value in keys.items()})


def _known(found: dict[str, Any], names: tuple[str, ...], where: str) -> None:
    for name in found:
        if name not in names:
            raise ValueError(f"{where}: unknown {name!r}; known are {', '.join(names)}")
