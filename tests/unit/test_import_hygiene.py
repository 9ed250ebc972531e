"""What each role may import, proven by ``sys.modules`` of a fresh interpreter that imported its entry point.

The import-linter contracts in ``pyproject.toml`` say the same of the source text; this catches what they do not see:
imports at run time and through third parties.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ["kubernetes", "textual", "quart", "pydantic", "IPython", "ipykernel", "jupyter_client", "aiohttp"]
ALLOWED = {
    "appliance.cli": [],
    "appliance.runtime.main": [],
    "appliance.runtime.server": [],
    "appliance.gateway": [],
    "appliance.embedded.apiserver.main": ["aiohttp", "pydantic"],
    "appliance.embedded.node.main": ["aiohttp", "pydantic"],
    "appliance.embedded.filter.main": [],
    "appliance.controller.main": ["aiohttp"],
    "appliance.manager.main": ["aiohttp", "quart", "pydantic"],
    "appliance.box.main": ["aiohttp"],
}


@pytest.mark.parametrize("module", list(ALLOWED))
def test_a_role_imports_only_what_it_needs(module: str) -> None:
    """Importing the role's entry point loads none of the heavy packages it has no business with."""
    code = f"import sys, json, importlib; importlib.import_module({module!r}); print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    loaded = {name.split(".")[0] for name in json.loads(done.stdout)}
    assert sorted(loaded & set(HEAVY)) == sorted(set(ALLOWED[module]) & loaded)
