"""Pictures of the flight deck from a real run: a box, three pools, a minute and a half of claims, a deck that watches.

One pool serves a steady load, one is drained by a SandboxClaim that may not make new sandboxes, one has an image that
cannot be had; sandboxes run code, are paused and end. The deck is the real one, fed by the box's API server; only its
terminal is in memory. Nothing in a picture is made up, so no two runs give the same.
"""

from __future__ import annotations

import asyncio
import copy
import os
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from boxes import RunningBox, launch

from appliance.api import kinds, labels
from appliance.config import KubeSettings
from appliance.kube.cluster import Cluster
from tui.app import Deck
from tui.feed.live import LiveSource

SIZE = (132, 36)
SECONDS = 90.0
"""Of claims before the pictures are taken."""
USERS = 4
MISSING_IMAGE = "registry.example/data-science:2"
PICTURES: dict[str, tuple[str, ...]] = {
    "overview": ("1",),
    "pools": ("2",),
    "sandboxes": ("3",),
    "claims": ("4",),
    "sandbox": ("3", "E", "enter"),
    "usage": ("3", "E", "m", "~12"),
    "shell": ("3", "E", "s", "~3", *"top", "enter", "~5"),
    "scale": ("2", "s", "9"),
    "kill": ("3", "ctrl+d"),
}
"""Keys from anywhere to each picture; ``~`` waits so many seconds."""


def user(env: dict[str, str], stop: threading.Event, seed: int) -> None:
    """Claims sandboxes and uses them, as an agent's program does, until told to stop."""
    from e2b_code_interpreter import Sandbox

    dice = random.Random(seed)
    access = {"api_key": env["E2B_API_KEY"], "api_url": env["E2B_API_URL"], "sandbox_url": env["E2B_SANDBOX_URL"]}
    while not stop.wait(dice.uniform(1.5, 5)):
        timeout = dice.choice([25, 60, 120, 300])
        sandbox = Sandbox.create("code-interpreter", timeout=timeout, metadata={"agent": f"agent-{seed}"}, **access)
        sandbox.run_code("import math; [math.sqrt(n) for n in range(200_000)]; 'done'")
        match dice.randrange(5):
            case 0:
                sandbox.pause(**access)
            case 1:
                sandbox.kill(**access)


async def more_pools(cluster: Cluster) -> None:
    """Two more pools beside the default one, and a claim that empties the first."""
    whole = await cluster.get(kinds.SANDBOXSET, "default", "code-interpreter", type=dict)
    for name, count in (("browser", 2), ("data-science", 2)):
        spec: dict[str, Any] = copy.deepcopy(whole["spec"]) | {"replicas": count}
        if name == "data-science":
            container = spec["template"]["spec"]["containers"][0]
            container["image"] = MISSING_IMAGE
            notes = spec["template"].setdefault("metadata", {}).setdefault("annotations", {})
            notes[labels.CHOSEN_IMAGE] = container["name"]  # the box then insists on it instead of its own root
        await cluster.create(kinds.SANDBOXSET, "default", {"metadata": {"name": name}, "spec": spec})


async def claim_batch(cluster: Cluster) -> None:
    """More than the pool has, and no new ones may be made: it waits, and says why."""
    spec = {"templateName": "browser", "replicas": 40, "createOnNoStock": False, "claimTimeout": "10m"}
    await cluster.create(kinds.SANDBOXCLAIM, "default", {"metadata": {"name": "nightly-run"}, "spec": spec})


async def shoot(box: RunningBox, out: Path) -> None:
    """Watch, drive, take the pictures."""
    source = LiveSource(KubeSettings(kubeconfig=box.kubeconfig))
    deck, stop = Deck(source), threading.Event()
    users = [threading.Thread(target=user, args=(box.env, stop, seed), daemon=True) for seed in range(USERS)]
    async with deck.run_test(size=SIZE) as pilot, await Cluster.connect(source.settings) as cluster:
        await more_pools(cluster)
        for one in users:
            one.start()
        await asyncio.sleep(SECONDS)
        await claim_batch(cluster)
        await asyncio.sleep(4)
        for name, keys in PICTURES.items():
            for key in keys:
                if key.startswith("~"):
                    await asyncio.sleep(float(key[1:]))
                else:
                    await pilot.press(key)
                    await pilot.pause(0.2)
            await pilot.pause(0.5)
            (out / f"{name}.svg").write_text(picture(deck.export_screenshot(title=f"flight deck: {name}")))
            print(f"{name}: {out / name}.svg")
            while len(deck.screen_stack) > 1:
                await pilot.press("ctrl+right_square_bracket" if name == "shell" else "escape")
                await pilot.pause(0.2)
        stop.set()
        await asyncio.to_thread(lambda: [one.join(60) for one in users])


def picture(svg: str) -> str:
    """The SVG without fonts from other hosts and without names that differ from run to run."""
    svg = re.sub(r"\s*@font-face \{[^}]*\}", "", svg)
    svg = svg.replace("Fira Code", "ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono")
    return re.sub(r"terminal-\d+", "terminal", svg)


def main() -> None:
    """Start a box, take the pictures, end the box and delete what it had."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    os.environ.pop("NO_COLOR", None)
    directory = Path(tempfile.mkdtemp(prefix="screens-"))
    begun = time.monotonic()
    box = launch(directory, pool=6)
    try:
        box.wait_ready()
        asyncio.run(shoot(box, out))
    finally:
        box.stop()
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{len(PICTURES)} pictures in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
