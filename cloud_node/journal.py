"""The ledger for asyncio: one thread owns it, and everything that waits is committed together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from cloud_node.ledger import AwayError, Correction, DeviceReport, Ledger
from cloud_node.metrics import Metrics
from cloud_node.outcome import Outcome
from fusion.errors import FusionError, SpoolError
from fusion.types import ItemId

MAX_GROUP = 256
REPORTS_S = 0.25
"""For so long reports of devices gather before they are stored together; nobody waits for one."""

PROBE_S = 5.0
"""A ledger that fails is written to so often where nothing else is."""


@dataclass(slots=True, eq=False)
class _Request:
    """What to do with the ledger: find an item, store an outcome, a report or all that wait, or anything else, one at
    a time. `writes` is whether success shows that the ledger can be written.
    """

    future: asyncio.Future[Any]
    item: ItemId | None = None
    outcome: Outcome | None = None
    report: DeviceReport | None = None
    all_reports: bool = False
    writes: bool = False
    action: Callable[[Ledger], object] | None = None
    result: object = None


class Journal:
    """Turns calls into groups: while one group commits, the next gathers. `run` must be running.

    `thread` is where the ledger works; left out, it has one of its own.
    """

    def __init__(self, ledger: Ledger, metrics: Metrics, thread: Executor | None = None) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._requests: asyncio.Queue[_Request] = asyncio.Queue()
        self._reports: dict[tuple[str, str], DeviceReport] = {}
        self._thread = thread or ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._refusing = self._missed = False
        self._tried_s = 0.0
        self._away: AwayError | None = None

    @property
    def failing(self) -> bool:
        """Whether the ledger is away, or did not take the last outcomes."""
        return self._refusing or self._missed

    def find(self, item: ItemId) -> asyncio.Future[Outcome | None]:
        """What is stored about `item`; the future may hold a `SpoolError`."""
        return self._ask(item=item)

    def store(self, outcome: Outcome) -> asyncio.Future[Outcome]:
        """Store durably; the future holds what the ledger then says about the item, or a `SpoolError`."""
        return self._ask(outcome=outcome, writes=True)

    def store_report(self, report: DeviceReport) -> None:
        """Keep a device's totals, soon. Of an epoch's reports only the newest waits; one that cannot be stored is
        dropped, since the next replaces it.
        """
        if not self._reports:
            asyncio.get_running_loop().call_later(REPORTS_S, partial(self._ask, all_reports=True))
        self._reports[report.device, report.epoch] = report

    def last_acknowledged(self, device: str, epoch: str) -> asyncio.Future[ItemId | None]:
        """The highest item of the device's epoch with an outcome."""
        return self._ask(action=lambda ledger: ledger.last_acknowledged(device, epoch))

    def record_correction(self, correction: Correction) -> asyncio.Future[None]:
        """Keep what a person says; the future may also hold an `InputError`: there is no such outcome."""
        return self._ask(action=lambda ledger: ledger.record_correction(correction), writes=True)

    async def run(self) -> None:
        """Serve requests until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            group = [await self._next()]
            while len(group) < MAX_GROUP and not self._requests.empty():
                group.append(self._requests.get_nowait())
            await loop.run_in_executor(self._thread, self._perform, [*group, *self._reports_due(group)])
            if self._missed or any(request.writes for request in group):
                self._tried_s = loop.time()
            for request in group:
                _settle(request)
                self._requests.task_done()

    async def flush(self) -> None:
        """Wait until everything asked so far is done."""
        if self._reports:
            self._ask(all_reports=True)
        await self._requests.join()

    def close(self) -> None:
        """Finish the commit at work, and close the ledger."""
        self._thread.submit(self._ledger.close).result()
        self._thread.shutdown()

    def _ask(self, **parts: Any) -> asyncio.Future[Any]:
        request = _Request(asyncio.get_running_loop().create_future(), **parts)
        self._requests.put_nowait(request)
        return request.future

    async def _next(self) -> _Request:
        """The next request. While the ledger fails and nobody writes, one to find out whether it still does."""
        while True:
            try:
                async with asyncio.timeout_at(self._tried_s + PROBE_S if self.failing else None):
                    return await self._requests.get()
            except TimeoutError:
                probe = self._ask(action=lambda ledger: ledger.probe(), writes=True)
                probe.add_done_callback(lambda done: done.exception())

    def _reports_due(self, group: Sequence[_Request]) -> list[_Request]:
        """One request for each report that waits, when `group` holds one for all."""
        if not any(request.all_reports for request in group):
            return []
        reports, self._reports = self._reports, {}
        return [
            _Request(asyncio.get_running_loop().create_future(), report=report, writes=True)
            for report in reports.values()
        ]

    def _perform(self, group: Sequence[_Request]) -> None:
        """In the ledger's thread. A failure becomes a request's result; a ledger that is away is asked once."""
        self._away = None
        self._answer([request for request in group if request.item is not None], self._find)
        stores = [request for request in group if request.outcome is not None]
        if stores:
            began = time.perf_counter()
            self._answer(stores, self._store)
            self._metrics.commit_seconds.observe(time.perf_counter() - began)
            self._metrics.commit_rows.observe(len(stores))
        for request in group:
            if request.action is not None:
                self._answer([request], self._act)
        self._answer([request for request in group if request.report is not None], self._store_reports)
        self._missed = self._away is not None
        if stores:
            self._refusing = isinstance(stores[0].result, SpoolError)
        elif any(request.writes and not isinstance(request.result, FusionError) for request in group):
            self._refusing = False

    def _find(self, requests: Sequence[_Request]) -> Sequence[object]:
        return self._ledger.find([request.item for request in requests if request.item is not None])

    def _store(self, requests: Sequence[_Request]) -> Sequence[object]:
        return self._ledger.store([request.outcome for request in requests if request.outcome is not None])

    def _store_reports(self, requests: Sequence[_Request]) -> Sequence[object]:
        self._ledger.store_reports([request.report for request in requests if request.report is not None])
        return [None] * len(requests)

    def _act(self, requests: Sequence[_Request]) -> Sequence[object]:
        return [request.action(self._ledger) for request in requests if request.action is not None]

    def _answer(self, requests: Sequence[_Request], work: Callable[[Sequence[_Request]], Sequence[object]]) -> None:
        """Do `work` for all at once; where that fails, for each alone, so that a damaged row hurts nobody else."""
        results: Sequence[object] = [self._away] * len(requests)
        try:
            if requests and self._away is None:
                results = work(requests)
        except AwayError as error:
            self._away = error
            results = [error] * len(requests)
        except FusionError as error:
            if len(requests) > 1:
                for request in requests:
                    self._answer([request], work)
                return
            results = (error,)
        for request, result in zip(requests, results, strict=True):
            request.result = result


def _settle(request: _Request) -> None:
    if request.future.done():
        return
    if isinstance(request.result, FusionError):
        request.future.set_exception(request.result)
    else:
        request.future.set_result(request.result)
