"""The load-generating process: reads a plan on its standard input, runs it, writes what came of it to a file.

python -m rivals.generator OUT.json < plan.json
"""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from fusion.errors import FusionError
from fusion.types import Evidence, ItemId, SampleId, new_epoch
from fusion.wire.convert import parse_evidence, serialize_evidence
from rivals.books import End, Fate
from rivals.links import HttpLink, Link, StreamLink, ended
from rivals.plan import Plan, Told
from rivals.schedule import Schedule, periodic, poisson

LEAD_S = 0.2


class Load:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.epoch = new_epoch()
        self.lag_s = 0.0
        self._plan = plan
        self._fates: list[Fate] = []
        self._names = [f"device-{number:04d}" for number in range(plan.devices)]
        lines = Path(plan.blobs).read_text(encoding="ascii").split()
        self._examples = [parse_evidence(bytes.fromhex(line)) for line in lines]
        self._count = [0] * plan.devices
        self._link: Link = (
            StreamLink(plan.address, self._names, self.epoch, plan.margin_s)
            if plan.protocol == "stream"
            else HttpLink(plan.address, as_json=plan.protocol == "json")
        )

    async def run(self) -> Told:
        """Everything."""
        await self._link.open()
        await (self._closed() if self._plan.pattern == "closed" else self._scheduled())
        await self._link.close()
        rows = tuple((f.device, f.sequence, f.due_s, f.told_s, f.end.value) for f in self._fates)
        return Told(epoch=self.epoch, fates=rows, lag_ms=self.lag_s * 1e3)

    def _next(self, device: int) -> tuple[ItemId, bytes]:
        self._count[device] += 1
        number = self._count[device]
        item = ItemId(SampleId(self._names[device], self.epoch, number), 1)
        example: Evidence = self._examples[(device + number) % len(self._examples)]
        return item, serialize_evidence(replace(example, item=item))

    async def _scheduled(self) -> None:
        """Each item at its moment, whatever became of the others."""
        plan, schedule = self._plan, self._schedule()
        ready = [self._next(device) for device in schedule.device.tolist()]
        start_s = time.perf_counter() + LEAD_S
        open_: set[asyncio.Task[None]] = set()
        rows = zip(schedule.due_s.tolist(), schedule.device.tolist(), ready, strict=True)
        for due_s, device, (item, blob) in rows:
            if (wait_s := start_s + due_s - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            self.lag_s = max(self.lag_s, time.perf_counter() - start_s - due_s)
            task = asyncio.create_task(self._ask(item, device, blob, start_s, due_s))
            open_.add(task)
            task.add_done_callback(open_.discard)
        last_s = start_s + plan.seconds + (plan.deadline_s or 0.0) + plan.grace_s
        if open_:
            await asyncio.wait(set(open_), timeout=max(0.0, last_s - time.perf_counter()))
        await _give_up(open_)

    async def _closed(self) -> None:
        """`window` items unanswered at any time; those due in the first `warm_s` are not told of."""
        plan, start_s = self._plan, time.perf_counter()

        async def keep_asking(worker: int) -> None:
            device = worker % plan.devices
            while (due_s := time.perf_counter() - start_s) < plan.warm_s + plan.seconds:
                item, blob = self._next(device)
                await self._ask(item, device, blob, start_s, due_s)
                if self._fates and self._fates[-1].end is not End.ANSWERED:
                    await asyncio.sleep(0.01)

        workers = {asyncio.create_task(keep_asking(worker)) for worker in range(plan.window)}
        _, open_ = await asyncio.wait(workers, timeout=plan.warm_s + plan.seconds + plan.grace_s)
        await _give_up(open_)
        done = [fate for fate in self._fates if fate.told_s is not None]
        first, last = plan.warm_s, plan.warm_s + plan.seconds
        self._fates = [fate for fate in done if fate.told_s is not None and first <= fate.told_s < last]

    async def _ask(self, item: ItemId, device: int, blob: bytes, start_s: float, due_s: float) -> None:
        limit = self._plan.deadline_s
        until_s = None if limit is None else start_s + due_s + limit
        fate = Fate(device, item.sample.sequence, due_s, End.SILENT)
        try:
            end, told_s = await ended(self._link, item, device, blob, until_s)
            fate = replace(fate, end=end, told_s=told_s - start_s)
        finally:
            self._fates.append(fate)

    def _schedule(self) -> Schedule:
        plan = self._plan
        if plan.pattern == "poisson":
            return poisson(plan.rate_s, plan.seconds, plan.devices, plan.seed, hot_share=plan.hot_share)
        return periodic(plan.rate_s, plan.seconds, plan.devices, plan.seed)


async def _give_up(tasks: set[asyncio.Task[None]]) -> None:
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def fates_of(told: Told) -> list[Fate]:
    """The rows as fates."""
    return [Fate(d, sequence, due, End(end), at) for d, sequence, due, at, end in told.fates]


def main() -> None:
    """Run the plan of the standard input."""
    plan = Plan.model_validate_json(sys.stdin.read())
    try:
        told = asyncio.run(Load(plan).run())
    except (FusionError, OSError) as error:
        sys.exit(f"{plan.address}: {error}")
    Path(sys.argv[1]).write_text(told.model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    np.seterr(all="raise")
    main()
