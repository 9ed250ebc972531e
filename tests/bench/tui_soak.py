"""What the flight deck costs: 10,000 sandboxes, 100 changes a second, CPU per frame, share of a core, memory.

    python tests/bench/tui_soak.py [--objects 10000] [--rate 100] [--frames 200] [--screen 3] [--filter WORDS] [--at 0]

The application runs headless and is told the time, so nothing waits: a frame is the changes that arrive in it, the
reducer, the frame's painting and the compositor. CPU is that of this process; the target is 16 ms a frame.
``--at`` puts the cursor on that row: what is inserted above it then moves every line of the table.
24,000 frames are an hour of the fleet's time, with 360,000 changes: memory must be as flat at its end as after a tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "support")]

from decks import T0, FixedSource, gone, pool, put, sandbox

from tui.app import FRAME, Deck
from tui.memory import settle
from tui.model.change import Change
from tui.model.meters import percentile


def fleet(objects: int) -> list[Change]:
    """Ten pools with so many sandboxes, every tenth of them claimed."""
    changes = [put(T0, pool(f"pool-{n}", objects // 10)) for n in range(10)]
    for n in range(objects):
        claimed = T0 - 500 + n % 400 if n % 10 == 0 else None
        changes.append(put(T0, sandbox(f"pool-{n % 10}-{n:06}", pool=f"pool-{n % 10}", claimed=claimed)))
    return changes


def churn(source: FixedSource, dice: random.Random, number: int, serial: int, size: int) -> None:
    """Deliveries, ends and newcomers, so that the fleet keeps its size."""
    sandboxes = source.world.sandboxes
    for index in range(number):
        key = source.world.order[dice.randrange(len(sandboxes))]
        row = sandboxes[key]
        name, template = row.key[1], row.template
        if len(sandboxes) > size:
            change = gone(source.at, row.source)
        elif index % 3 == 0 and row.member:
            change = put(source.at, sandbox(name, pool=template, claimed=source.at, version=serial + 2))
        else:
            change = put(source.at, sandbox(f"{template}-n{serial}-{index}", at=source.at, pool=template))
        source.world.apply(change)


async def soak(arguments: argparse.Namespace) -> None:
    """Run the frames and print the numbers."""
    begun = time.process_time()
    source, dice = FixedSource(fleet(arguments.objects)), random.Random(7)
    filled = time.process_time() - begun
    settle()
    deck = Deck(source, clock_paused=True)
    costs: list[float] = []
    async with deck.run_test(size=(160, 50)) as pilot:
        await pilot.press(arguments.screen)
        await pilot.pause()
        if arguments.filter:
            deck.screen.set_filter(arguments.filter)  # type: ignore[attr-defined]
        if arguments.at:
            deck.screen.live.go(arguments.at)  # type: ignore[attr-defined]
            await pilot.pause()
        memory: list[float] = []
        for frame in range(arguments.frames):
            source.at += FRAME
            begun = time.process_time()
            churn(source, dice, round(arguments.rate * FRAME), frame, arguments.objects)
            deck.frame()
            await pilot.pause(0)
            costs.append(time.process_time() - begun)
            if frame % 20 == 0:
                await pilot.press("j")
            if frame % max(1, arguments.frames // 12) == 0:
                memory.append(resident())
        memory.append(resident())
    mean, most = sum(costs) / len(costs), percentile(costs, 0.99) or 0.0
    print(f"{arguments.objects} objects reduced in {filled:.2f} s CPU ({filled / arguments.objects * 1e6:.0f} µs each)")
    print(f"{arguments.frames} frames: mean {mean * 1000:.1f} ms, p99 {most * 1000:.1f} ms CPU a frame")
    print(f"{mean / FRAME:.1%} of a core at {1 / FRAME:.1f} frames/s and {arguments.rate} changes/s")
    hours = arguments.frames * FRAME / 3600
    print(f"{len(source.world.sandboxes)} sandboxes after {hours:.2f} h of their time; resident MiB over it:")
    print("  " + " ".join(f"{one:.0f}" for one in memory))


def resident() -> float:
    """MiB of memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=100)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--screen", default="3", choices=["1", "2", "3", "4"])
    parser.add_argument("--filter", default="")
    parser.add_argument("--at", type=int, default=0)
    asyncio.run(soak(parser.parse_args()))


if __name__ == "__main__":
    main()
