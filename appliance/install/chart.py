"""The Helm chart, written from the same description as the manifests of ``appliance install``.

``python -m appliance.install.chart DIRECTORY`` writes ``packaging/helm``; a test fails when that differs. ``appliance
bundle`` writes it too, so that the single file carries it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from appliance import __version__
from appliance.install.command import parts
from appliance.install.templates import template
from appliance.install.values import Values, schema

_NOTE = "# Written by `python -m appliance.install.chart packaging/helm`; change appliance/install/ instead.\n"
_CHART = {
    "apiVersion": "v2",
    "name": "appliance",
    "description": "A cloud of code-execution sandboxes for AI agents, with the E2B API on warm pools",
    "type": "application",
    "version": __version__,
    "appVersion": __version__,
    "kubeVersion": ">=1.29.0-0",
}
_NOTES = """\
The API is the Service sandbox-manager in sandbox-system{{ if .Values.domain }}, for clients of E2B_DOMAIN={{ .Values.domain }}{{ end }}.
{{- if not .Values.apiKey }}
The managers start once there is a first API key:
  kubectl -n sandbox-system create secret generic {{ .Values.apiKeySecret }} --from-literal=api-key=e2b_…
{{- end }}
Next: apply a SandboxSet; its name is the template that SDKs ask for. `appliance doctor` checks the cluster.
"""  # noqa: E501


def files() -> dict[str, str]:
    """Name → contents of every file of the chart."""
    made = {
        "Chart.yaml": _NOTE + yaml.safe_dump(_CHART, sort_keys=False, width=200),
        "values.yaml": _NOTE + "\n".join(_values(Values(), 0)) + "\n",
        "values.schema.json": json.dumps(schema(), indent=2) + "\n",
        "templates/NOTES.txt": _NOTES,
    }
    return made | {f"templates/{name}.yaml": template(documents) for name, documents in parts().items()}


def write(directory: Path) -> None:
    """Write the chart, removing what it no longer has."""
    made = files()
    for path in [*directory.glob("*"), *directory.glob("templates/*")]:
        if path.is_file() and str(path.relative_to(directory)) not in made:
            path.unlink()
    for name, contents in made.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(contents)


def _values(model: BaseModel, indent: int) -> Iterator[str]:
    space = " " * indent
    for name, field in type(model).model_fields.items():
        value: Any = getattr(model, name)
        key = field.serialization_alias or field.alias or name
        about = field.description or (type(value).__doc__ or "" if isinstance(value, BaseModel) else "")
        if about:
            yield f"{space}# {about.strip().splitlines()[0].rstrip('.')}"
        if isinstance(value, BaseModel):
            yield f"{space}{key}:"
            yield from _values(value, indent + 2)
        elif isinstance(value, dict) and value:
            yield f"{space}{key}:"
            yield from (f"{space}  {line}" for line in yaml.safe_dump(value, width=200).splitlines())
        else:
            yield f"{space}{key}: {json.dumps(value)}"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
