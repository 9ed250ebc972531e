"""What goes into the single file's tree."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyz import collect
from pyz.prune import prune

LOCK = """# made by a tool
aiohttp==3.14.5 \\
    --hash=sha256:aa
    # via appliance
PyYAML==6.0.3 ; python_version > '3' \\
    --hash=sha256:bb
quart==0.22.0 \\
    --hash=sha256:cc
"""


def test_lock_entries_are_chosen_with_their_hashes() -> None:
    """Filtering a lock keeps whole entries, compares names as package indexes do, and drops the rest."""
    chosen = collect.only(LOCK, {"pyyaml"})
    assert "PyYAML==6.0.3" in chosen
    assert "sha256:bb" in chosen
    assert "sha256:aa" not in chosen
    assert "sha256:cc" not in chosen


def make(tree: Path, **files: str) -> Path:
    """A tree with these files."""
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tree


def test_compiled_modules_of_other_versions_join_the_tree(tmp_path: Path) -> None:
    """A second version adds its compiled modules beside the first's; what is the same stays once."""
    into = make(tmp_path / "a", **{"p/m.py": "x", "p/c.cpython-311-x.so": "1"})
    collect._merge(into, make(tmp_path / "b", **{"p/m.py": "x", "p/c.cpython-312-x.so": "2"}))
    assert sorted(path.name for path in (into / "p").iterdir()) == ["c.cpython-311-x.so", "c.cpython-312-x.so", "m.py"]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("p/m.py", "m.py differs between versions"), ("p/n.py", "n.py exists for one version")],
)
def test_sources_that_depend_on_the_version_are_refused(tmp_path: Path, name: str, complaint: str) -> None:
    """A library whose Python code differs between versions cannot be shared, and the build says which file."""
    into = make(tmp_path / "a", **{"p/m.py": "x"})
    with pytest.raises(RuntimeError, match=complaint):
        collect._merge(into, make(tmp_path / "b", **{name: "y"}))


def test_pruning_keeps_packages_importable_and_licences(tmp_path: Path) -> None:
    """Models, stubs and tests go; ``__init__`` modules, code and licences stay."""
    tree = make(
        tmp_path,
        **{
            "kubernetes/client/models/__init__.py": "",
            "kubernetes/client/models/v1_pod.py": "x",
            "kubernetes/client/configuration.py": "x",
            "lib/stub.pyi": "x",
            "lib/tests/test_it.py": "x",
            "lib-1.dist-info/RECORD": "x",
            "lib-1.dist-info/licenses/LICENSE": "x",
        },
    )
    prune(tree)
    left = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    assert {"kubernetes/client/configuration.py", "kubernetes/client/models/__init__.py"} <= left
    assert "lib-1.dist-info/licenses/LICENSE" in left
    assert not left & {"kubernetes/client/models/v1_pod.py", "lib/stub.pyi", "lib-1.dist-info/RECORD"}
    assert not any("tests" in name for name in left)
