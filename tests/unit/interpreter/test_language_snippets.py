"""Language names, and the snippets that set variables."""

from __future__ import annotations

import os
import subprocess

import pytest

from appliance.runtime.interpreter import languages


@pytest.mark.parametrize(
    ("given", "name"),
    [(None, "python"), ("", "python"), (" Python ", "python"), ("js", "javascript"), ("TS", "typescript"), ("r", "r")],
)
def test_names_are_normalised(given: str | None, name: str) -> None:
    """Case, blanks and aliases do not matter."""
    assert languages.normalise(given) == name


def test_python_sets_and_deletes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippet changes the environment and binds no name in the user's namespace."""
    monkeypatch.setenv("GONE", "x")
    monkeypatch.setenv("KEPT", "x")
    namespace: dict[str, object] = {}
    exec(languages.get("python").environment({"KEPT": "a'\"\n", "GONE": None}), namespace)
    assert os.environ["KEPT"] == "a'\"\n"
    assert "GONE" not in os.environ
    assert set(namespace) == {"__builtins__"}


def test_bash_quotes() -> None:
    """A value with quotes and dollars reaches the shell as it is."""
    code = languages.get("bash").environment({"V": "a'b $HOME", "HOME": None})
    done = subprocess.run(
        ["bash", "-c", f'{code}\nprintf "%s|%s" "$V" "${{HOME-unset}}"'], capture_output=True, check=True
    )
    assert done.stdout == b"a'b $HOME|unset"


def test_an_unknown_language_is_its_kernel() -> None:
    """A kernel we know nothing about can still be named."""
    assert languages.get("ruby").kernels == ("ruby",)
