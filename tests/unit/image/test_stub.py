"""The hand-written programs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from appliance.image.stub import stub


def make(tmp_path: Path, *words: str) -> Path:
    """An executable stub."""
    path = tmp_path / "stub"
    path.write_bytes(stub(words))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("arguments", [[], ["one"], ["one", "", "with space", "ü"], [str(n) for n in range(200)]])
@pytest.mark.parametrize("fixed", [[], ["fixed"], ["a b", "*"] * 6])
def test_a_stub_becomes_the_program_with_both_lists_of_words(
    tmp_path: Path, fixed: list[str], arguments: list[str]
) -> None:
    """Fixed words come first, the caller's follow unchanged, whatever their number."""
    path = make(tmp_path, "/usr/bin/printf", "%s\\n", *fixed)
    said = subprocess.run([path, *arguments], capture_output=True, text=True, check=True).stdout
    words = [*fixed, *arguments]
    assert said == ("".join(f"{word}\n" for word in words) if words else "\n")


def test_the_environment_passes_through(tmp_path: Path) -> None:
    """The program sees exactly the caller's environment."""
    path = make(tmp_path, "/usr/bin/env")
    said = subprocess.run([path], env={"A": "1", "B": ""}, capture_output=True, text=True, check=True).stdout
    assert said == "A=1\nB=\n"


def test_a_missing_program_is_exit_status_127(tmp_path: Path) -> None:
    """As from a shell, so that a kubelet's message says the usual."""
    assert subprocess.run([make(tmp_path, "/nonexistent")], check=False).returncode == 127


@pytest.mark.parametrize(("words", "complaint"), [([], "1 to 14"), (["x"] * 15, "got 15"), (["a\0b"], "NUL")])
def test_what_cannot_be_written_is_refused(words: list[str], complaint: str) -> None:
    """No words, too many, or a NUL byte are errors that say so."""
    with pytest.raises(ValueError, match=complaint):
        stub(words)
