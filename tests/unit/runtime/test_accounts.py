"""The default account is added to images that lack it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.runtime import accounts
from appliance.runtime.users import Users


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can add accounts; run packaging/test.sh as root")
def test_added_once_with_a_free_number_and_a_home(tmp_path: Path) -> None:
    """The account gets the first free id, its own home and a shell that is there; what was there stays."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sh").touch()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nother:x:1000:1000::/:/bin/sh")
    assert accounts.ensure("user", tmp_path) and not accounts.ensure("user", tmp_path)
    found = Users(tmp_path / "etc").get("user")
    assert (found.uid, found.gid, found.home, found.shell) == (1001, 1001, "/home/user", "/bin/sh")
    assert os.stat(tmp_path / "home/user").st_uid == 1001
    assert (tmp_path / "etc/passwd").read_text().startswith("root:x:0:0::/root:/bin/sh\nother:")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can add accounts; run packaging/test.sh as root")
def test_an_empty_image_gets_its_files(tmp_path: Path) -> None:
    """Without passwd and group both are made; a number is no name to be added."""
    assert not accounts.ensure("1000", tmp_path) and not accounts.ensure(None, tmp_path)
    assert accounts.ensure("user", tmp_path)
    assert Users(tmp_path / "etc").get("user").uid == accounts.FIRST
