"""The data directory."""

import hashlib
import json
import re
import stat
from pathlib import Path

from appliance.box.layout import Layout


def test_secrets_are_private_files_and_tokens_are_stored_hashed(tmp_path: Path) -> None:
    """Key, kubeconfigs and token table have mode 0600; the table the API server reads holds digests only."""
    layout = Layout(tmp_path / "data")
    layout.prepare("127.0.0.1:1")
    for path in (layout.api_key, layout.kubeconfig("admin"), layout.kubeconfig("node"), layout.run / "tokens.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = json.loads(layout.kubeconfig("manager").read_text())["users"][0]["user"]["token"]
    table = json.loads((layout.run / "tokens.json").read_text())
    assert token not in json.dumps(table)
    assert table[hashlib.sha256(token.encode()).hexdigest()]["user"].endswith("sandbox-manager")


def test_second_start_keeps_key_and_tokens(tmp_path: Path) -> None:
    """Clients of the first start keep working after a second one on another port."""
    layout = Layout(tmp_path)
    layout.prepare("127.0.0.1:1")
    first = (layout.api_key.read_text(), layout.kubeconfig("admin").read_text())
    layout.prepare("127.0.0.1:2")
    assert layout.api_key.read_text() == first[0]
    assert layout.kubeconfig("admin").read_text() == first[1].replace("127.0.0.1:1", "127.0.0.1:2")


def test_key_has_the_shape_old_sdks_demand(tmp_path: Path) -> None:
    """SDKs up to 2.45 refuse keys that do not match e2b_<hex> before sending anything."""
    layout = Layout(tmp_path)
    layout.prepare("127.0.0.1:1")
    assert re.fullmatch(r"e2b_[0-9a-f]+\n", layout.api_key.read_text())
