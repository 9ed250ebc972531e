"""What the flight deck may know of the rest of the product, and what must not know of it."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
ALLOWED = ("appliance.api", "appliance.kube", "appliance.config")


def imported(path: Path) -> set[str]:
    """Modules a file imports, as written."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_the_flight_deck_knows_only_vocabulary_cluster_and_settings() -> None:
    """Nothing of ours but api, kube and config is imported: it works against any cluster with a kubeconfig."""
    for path in (ROOT / "tui").rglob("*.py"):
        ours = {name for name in imported(path) if name == "appliance" or name.startswith("appliance.")}
        assert all(name.startswith(ALLOWED) for name in ours - {"appliance.api"}), path


def test_the_model_is_pure() -> None:
    """The reducer imports no clock, no loop, no file system and no widget."""
    for path in [*(ROOT / "tui" / "model").glob("*.py"), *(ROOT / "tui" / "view").glob("*.py")]:
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & {"time", "asyncio", "os", "pathlib", "textual", "aiohttp"}, path


def test_printing_tables_loads_no_textual() -> None:
    """--once must stay quick: the screen's library is loaded only for a screen."""
    code = "import sys, tui.main, tui.once; print('textual' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
