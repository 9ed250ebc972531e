"""Becoming the user a command asks for, by the sandbox's own passwd and group files."""

from __future__ import annotations

import os
from dataclasses import dataclass

from appliance.embedded.node.request import Command


@dataclass(frozen=True, slots=True)
class Account:
    """Numbers and home of a user."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def lookup(user: str | None, uid: int | None, gid: int | None, etc: str = "/etc") -> Account:
    """The account by name (``NAME``, ``UID``, either with ``:GROUP``) or numbers. Raises ``LookupError``."""
    name, _, group = (user or "").partition(":")
    if name.isdigit():
        uid = int(name)
    entries = [line.split(":") for line in _lines(f"{etc}/passwd") if line.count(":") >= 6]
    wanted = uid if uid is not None else 0
    named = bool(name) and not name.isdigit()
    found = next((e for e in entries if (e[0] == name if named else e[2] == str(wanted))), None)
    if found is None and named:
        raise LookupError(f"no user {name!r} in /etc/passwd")
    home = found[5] if found else "/"
    number = int(found[2]) if found else wanted
    groups = [line.split(":") for line in _lines(f"{etc}/group") if line.count(":") >= 3]
    if group:
        gid = _group(group, groups)
    primary = gid if gid is not None else int(found[3]) if found else 0
    extra = tuple(int(g[2]) for g in groups if found and found[0] in g[3].split(","))
    return Account(number, primary, tuple(dict.fromkeys((primary, *extra))), home or "/")


def _group(text: str, groups: list[list[str]]) -> int:
    if text.isdigit():
        return int(text)
    for entry in groups:
        if entry[0] == text:
            return int(entry[2])
    raise LookupError(f"no group {text!r} in /etc/group")


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def become(command: Command) -> None:
    """Take the command's identity; adds HOME when the environment has none. Raises ``LookupError``, ``OSError``."""
    if command.user is None and command.uid is None and command.gid is None:
        return
    account = lookup(command.user, command.uid, command.gid)
    command.env.setdefault("HOME", account.home)
    if os.geteuid() != 0:
        return  # without isolation the agent itself may be an ordinary user: then it can only be itself
    os.setgroups(list(account.groups))
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
