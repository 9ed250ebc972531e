"""Keys as Textual names them, as key events of the emulator, which encodes them as the program asked for."""

from __future__ import annotations

from typing import Final

from bittty import KeyEvent, KeyModifiers

ARROWS: Final = ("up", "down", "left", "right", "home", "end", "insert", "delete", "pageup", "pagedown")
NAMED: Final = frozenset((*ARROWS, "enter", "tab", "escape", "backspace", *(f"f{number}" for number in range(1, 25))))
MODIFIERS: Final = {
    "shift": KeyModifiers.SHIFT,
    "alt": KeyModifiers.ALT,
    "ctrl": KeyModifiers.CTRL,
    "super": KeyModifiers.SUPER,
    "hyper": KeyModifiers.HYPER,
    "meta": KeyModifiers.META,
}
CONTROL: Final = {
    "at": "@", "space": "@", "backslash": "\\", "right_square_bracket": "]", "left_square_bracket": "[",
    "circumflex_accent": "^", "underscore": "_", "slash": "_", "minus": "_", "question_mark": "?",
}  # fmt: skip
"""Keys beside the letters that have a control character."""


def key_event(key: str, character: str | None) -> KeyEvent | None:
    """The event of a key; None for one that means nothing to a terminal."""
    *words, name = key.split("+") if key != "+" else ["plus"]
    if any(word not in MODIFIERS for word in words):
        return None
    held = KeyModifiers.NONE
    for word in words:
        held |= MODIFIERS[word]
    if name in NAMED:
        return KeyEvent(name, held)
    if held & KeyModifiers.CTRL:
        letter = CONTROL.get(name, name)
        return KeyEvent(letter.lower(), held) if len(letter) == 1 else None
    if character is not None and character.isprintable() and character:
        return KeyEvent(character, held, text=character)
    return KeyEvent(name, held) if len(name) == 1 else None
