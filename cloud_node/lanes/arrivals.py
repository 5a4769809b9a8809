"""What is done with whoever comes to review: it is warmed up where the service is, and then free."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor

from cloud_node.config import BatchSettings
from cloud_node.lanes.crew import Crew, Worker
from cloud_node.lanes.warmup import TimedBatch, warm_up
from fusion.clock import Clock
from fusion.errors import ModelError
from fusion.review import replicated

_log = logging.getLogger(__name__)


class Arrivals:
    """Brings workers into `crew`; `free` is called when one can begin. All calls are from one loop."""

    def __init__(
        self, crew: Crew, settings: BatchSettings, executor: Executor, clock: Clock, free: Callable[[], None]
    ) -> None:
        self._crew, self._settings, self._executor, self._clock = crew, settings, executor, clock
        self._free = free
        self._warm = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def warm_up(self) -> None:
        """Have those that are there review made-up items, and from now on whoever comes. Raises `ModelError`."""
        self._warm = True
        several = replicated(self._crew.reviewer) is not None
        workers = self._crew.refresh() if several else [self._crew.next()]
        for worker in workers:
            if worker is not None:
                await self._warm_up(worker)
                if several:
                    self._crew.release(worker)

    def meet(self) -> None:
        """Take in replicas that came."""
        for worker in self._crew.refresh():
            if not self._warm:
                self._crew.release(worker)
                continue
            task = asyncio.create_task(self._receive(worker))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def cancel(self) -> None:
        """Whoever is being warmed up is not waited for."""
        for task in self._tasks:
            task.cancel()

    async def _receive(self, worker: Worker) -> None:
        try:
            await self._warm_up(worker)
        except ModelError as error:
            _log.warning("%s", error)
        self._crew.release(worker)
        self._free()

    async def _warm_up(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        timed: list[TimedBatch] = await loop.run_in_executor(
            self._executor, warm_up, worker.reviewer, self._settings, self._clock, worker.batch_reviewer.memory.testify
        )
        for batch in timed:
            self._crew.learn(worker, batch.tokens, batch.duration_ns)
            _log.info("%s: %d items in %.1f ms", self._crew.reviewer.name, batch.items, batch.duration_ns / 1e6)
