"""The bill of materials of an image (CycloneDX 1.5): Python libraries with version and licence, system libraries."""

from __future__ import annotations

import email.parser
import hashlib
import json
import platform
from pathlib import Path
from typing import Any

from appliance import __version__


def bill(tree: Path) -> bytes:
    """Describe a self-contained tree; the same tree gives the same bytes."""
    components = [_python(), *_distributions(tree / "site"), *_libraries(tree / "lib")]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "appliance", "version": __version__}},
        "components": components,
    }
    return json.dumps(document, indent=1).encode()


def _python() -> dict[str, Any]:
    return {"type": "framework", "name": "cpython", "version": platform.python_version()}


def _distributions(site: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(site.glob("*.dist-info/METADATA")):
        fields = email.parser.HeaderParser().parsestr(path.read_text(errors="replace"))
        name, version = str(fields["Name"]), str(fields["Version"])
        entry = {"type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{name.lower()}@{version}"}
        licence = fields["License-Expression"] or (fields["License"] or "").partition("\n")[0].strip()
        found.append({**entry, "licenses": [{"license": {"name": licence}}]} if licence else entry)
    return found


def _libraries(directory: Path) -> list[dict[str, Any]]:
    return [
        {
            "type": "library",
            "name": path.name,
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}],
        }
        for path in sorted(directory.iterdir())
    ]
