"""``tui.toml``: theme, columns and keys of one operator.

::

    theme = "textual-light"
    [columns]
    sandboxes = ["name", "state", "end", "reason"]
    [keys]
    kill = "ctrl+x"
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from string import punctuation
from typing import Any

from textual.keys import Keys
from textual.keys import _character_to_key as key_name

from tui.act.table import ACTIONS, BY_NAME, Action
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
    """The configuration in a parsed file. Raises ValueError naming the field, what it is, and what was expected."""
    _known(found, ("theme", "columns", "keys"), where)
    theme, columns, keys = found.get("theme", ""), found.get("columns", {}), found.get("keys", {})
    if not isinstance(theme, str):
        raise ValueError(f"{where}: theme: expected a name in quotes, got {theme!r}")
    for name, section in (("columns", columns), ("keys", keys)):
        if not isinstance(section, dict):
            raise ValueError(f"{where}: {name}: expected a table [{name}], got {section!r}")
    _known(columns, tuple(TABLES), f"{where}: columns")
    for table, wanted in columns.items():
        place = f"{where}: columns.{table}"
        if not isinstance(wanted, list) or not wanted or not all(isinstance(one, str) for one in wanted):
            raise ValueError(f"{place}: expected a list of column names, got {wanted!r}")
        _known(dict.fromkeys(wanted), tuple(column.name for column in TABLES[table].columns), place)
        if twice := [one for one in dict.fromkeys(wanted) if wanted.count(one) > 1]:
            raise ValueError(f"{place}: {twice[0]!r} is named twice; expected each column once")
    _known(keys, tuple(BY_NAME), f"{where}: keys")
    for name, value in keys.items():
        if not isinstance(value, str) or not value.strip() or not all(map(_is_key, value.split(","))):
            raise ValueError(f'{where}: keys.{name}: expected keys such as "ctrl+x" or "f5,x", got {value!r}')
    _no_clash(keys, where)
    return Configuration(theme, columns, keys)


def _is_key(word: str) -> bool:
    """Whether a word is a key: modifiers and the name of one that exists, joined by plus signs."""
    found = re.fullmatch(r"(?:(?:ctrl|shift|alt|super)\+)*([A-Za-z0-9]|[a-z][a-z0-9_]+|@|\\)", word.strip())
    return found is not None and (len(found[1]) == 1 or found[1] in _NAMED)


_NAMED = {*(key.value for key in Keys), *map(key_name, punctuation)}
"""Keys that are not written as themselves."""


def _no_clash(keys: dict[str, str], where: str) -> None:
    """No key may mean two things on one screen."""
    moved = {name: [one.strip() for one in value.split(",")] for name, value in keys.items()}
    for name, wanted in moved.items():
        for other in ACTIONS:
            taken = moved.get(other.name, other.keys.split(","))
            both = sorted(set(wanted) & set(taken))
            if other.name != name and both and _meet(BY_NAME[name], other):
                raise ValueError(f"{where}: keys.{name}: {both[0]} is {other.name} already; move that one as well")


def _meet(one: Action, other: Action) -> bool:
    """Whether two actions are offered on the same screen at the same time."""
    return not one.where or not other.where or bool(set(one.where) & set(other.where))


def _known(found: dict[str, Any], names: tuple[str, ...], where: str) -> None:
    for name in found:
        if name not in names:
            raise ValueError(f"{where}: unknown {name!r}; known are {', '.join(names)}")
