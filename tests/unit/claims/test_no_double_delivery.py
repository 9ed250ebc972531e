"""The promise everything rests on: one sandbox, one owner, under random interleavings, failures and crashes."""

from __future__ import annotations

import asyncio
import random

import pytest

from appliance.api import labels
from appliance.kube import errors


@pytest.mark.parametrize("seed", range(25))
async def test_no_sandbox_has_two_owners(bench, ask, seed):
    """Three processes, lost answers, conflicts, refused runtimes and clients that leave: every delivery is unique,
    every claimed sandbox was delivered to somebody who was told, and nothing else is left."""
    rand = random.Random(seed)
    bench.stock(30)

    async def trouble(verb, path, do):
        for _ in range(rand.randrange(4)):
            await asyncio.sleep(0)
        roll = rand.random()
        if roll < 0.05:
            raise errors.Unreachable("never arrived")
        answer = do()
        if roll < 0.15:
            raise errors.Unreachable("the answer got lost")
        for _ in range(rand.randrange(4)):
            await asyncio.sleep(0)
        return answer

    engines = [await bench.engine() for _ in range(3)]
    bench.server.trouble = trouble
    bench.runtime.refuse = {f"10.0.0.{number}" for number in rand.sample(range(1, 31), 3)}

    async def client(number):
        claim = asyncio.create_task(
            rand.choice(engines).claim(ask(owner=f"key-{number}", create_on_no_stock=False, env={"N": str(number)}))
        )
        if rand.random() < 0.3:
            for _ in range(rand.randrange(25)):
                await asyncio.sleep(0)
            claim.cancel()
        await asyncio.wait([claim])
        return None if claim.cancelled() or claim.exception() is not None else claim.result()

    results = [result for result in await asyncio.gather(*(client(n) for n in range(40))) if result is not None]
    for engine in engines:
        await engine.drain()
    names = [result.sandbox.name for result in results]
    assert len(names) == len(set(names))
    assert len({result.sandbox_id for result in results}) == len(results)
    left = {item["metadata"]["name"]: item["metadata"] for item in bench.claimed()}
    assert set(left) == set(names)
    owners = {result.sandbox.name: result.sandbox.meta.annotations[labels.OWNER] for result in results}
    assert {name: meta["annotations"][labels.OWNER] for name, meta in left.items()} == owners
    locks = {}
    for version in bench.server.seen:
        meta = version["metadata"]
        lock = meta.get("annotations", {}).get(labels.LOCK)
        if lock is not None and "sandbox-pool" in str(meta.get("labels")):
            assert locks.setdefault(meta["uid"], lock) == lock
