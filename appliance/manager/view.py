"""Sandboxes as the E2B API shows them: pure functions from a roster entry to JSON-ready dicts (contract §1.6).

Optional fields without a value are left out, nullable ones are null: the generated clients take both and nothing else.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from appliance.api import times
from appliance.api.header_rules import HeaderRules
from appliance.api.labels import ENVD_VERSION
from appliance.manager import deadlines, metadata
from appliance.manager.roster import Entry
from appliance.manager.runstate import PAUSED_RUNS, Run, pause_mode
from appliance.manager.sizes import Sizes

CLIENT_ID = "appliance"
"""Obsolete in E2B, yet required in every answer; old clients append it to the id, so it has no dash."""


def handle(entry: Entry, domain: str | None) -> dict[str, Any]:
    """``Sandbox``: what create and connect return."""
    view: dict[str, Any] = {
        "templateID": entry.template,
        "sandboxID": entry.sandbox_id,
        "clientID": CLIENT_ID,
        "envdVersion": ENVD_VERSION,
        "alias": entry.alias,
        "trafficAccessToken": entry.traffic_token,
        "domain": domain,
    }
    if entry.token is not None:
        view["envdAccessToken"] = entry.token
    return view


def listed(entry: Entry, run: Run, sizes: Sizes) -> dict[str, Any]:
    """``ListedSandbox``: one line of a list; no tokens."""
    return {
        "templateID": entry.template,
        "sandboxID": entry.sandbox_id,
        "clientID": CLIENT_ID,
        "alias": entry.alias,
        "startedAt": times.format(entry.started_at, micro=True),
        "endAt": times.format(_end(entry, run), micro=True),
        "cpuCount": sizes.cpu_count,
        "memoryMB": sizes.memory_mb,
        "diskSizeMB": sizes.disk_mb,
        "state": "paused" if run in PAUSED_RUNS else "running",
        "envdVersion": ENVD_VERSION,
        "metadata": _metadata(entry),
        "volumeMounts": [],
    }


def detail(
    entry: Entry, run: Run, sizes: Sizes, domain: str | None, rules: HeaderRules | None = None
) -> dict[str, Any]:
    """``SandboxDetail``: everything about one sandbox. ``rules``: those it has; their owner sees them as given."""
    options = entry.options
    on_timeout = "pause" if options.auto_pause else "kill"
    view = listed(entry, run, sizes) | {
        "domain": domain,
        "allowInternetAccess": options.internet,
        "lifecycle": {"autoResume": options.auto_resume, "onTimeout": on_timeout},
    }
    if entry.token is not None:
        view["envdAccessToken"] = entry.token
    if options.network is not None or rules is not None:
        view["network"] = dict(options.network or {})
    if rules is not None:
        view["network"]["rules"] = msgspec.to_builtins(rules.rules)
    if run is Run.PAUSED and (mode := pause_mode(entry.sandbox)):
        view["pauseMode"] = mode
    return view


def _end(entry: Entry, run: Run) -> datetime:
    """``endAt``. The instant of a pause is kept in whole seconds: it may look earlier than the run's start."""
    end = deadlines.end_at(entry.sandbox, run)
    return max(end, entry.started_at) if run in PAUSED_RUNS else end


def _metadata(entry: Entry) -> dict[str, str]:
    given = metadata.returned(entry.sandbox.meta.annotations)
    if entry.options.return_ip and entry.address:
        given["sandbox-ip"] = entry.address
    return given
