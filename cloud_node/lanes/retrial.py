"""Tries a reviewer that fails where no item comes that would show whether it answers again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

from cloud_node.lanes.crew import Crew
from fusion.clock import Clock

RETRY_S = 5.0


class Retrial:
    """Every `RETRY_S`, while everybody of `crew` fails, has whoever is free for the longest time score a known row.

    All calls are from one loop. `quiet` says that no item waits; `free` is called when a worker is free again.
    """

    def __init__(
        self, crew: Crew, executor: Executor, clock: Clock, quiet: Callable[[], bool], free: Callable[[], None]
    ) -> None:
        self._crew, self._executor, self._clock = crew, executor, clock
        self._quiet, self._free = quiet, free

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(RETRY_S)
            if self._crew.failing and self._quiet() and (worker := self._crew.next()) is not None:
                self._crew.engage(worker, self._clock.monotonic_ns())
                answers = worker.batch_reviewer.answers_again
                worker.failing = not await asyncio.get_running_loop().run_in_executor(self._executor, answers)
                self._crew.release(worker)
                self._free()
