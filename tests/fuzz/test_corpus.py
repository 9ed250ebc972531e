"""Every input that fuzzing ever found something with, and the seeds it starts from: replayed, all promises hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(CORPUS.glob("*/*"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_kept_input_breaks_no_promise(file: Path) -> None:
    """The target of the input's directory takes it without an unexpected exception."""
    TARGETS[file.parent.name](file.read_bytes())


def test_every_target_has_inputs_and_every_input_a_target() -> None:
    """No directory is misspelt and no target starts from nothing."""
    assert {file.parent.name for file in FILES} == set(TARGETS)
