"""The one thread that owns the spool: whatever waits is committed together.

Samples come from the pipeline, answers and questions from the uplink; each transaction takes all that
gathered while the last one was being written to disk.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from edge_node.spool.files import SpoolFullError
from edge_node.spool.records import Record
from edge_node.spool.store import Spool
from fusion.errors import SpoolError

T = TypeVar("T")
RETRY_S = 1.0
GROUP = 256
"""Actions that share a commit at most; samples among them are bounded by `spool.batch`."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    action: Callable[[Spool], Any]
    future: Future[Any]
    record: bool = False
    stop: bool = False


class SpoolWorker:
    """Runs actions on `spool` in its own thread, grouped into durable commits.

    A future is done only after its commit; `on_stored` is called after each commit that holds a record (and not after
    those that only ask: who is woken by it asks again). While the disk is full the group waits and the callers with it;
    after any other failure `failure` is set and every call raises it.
    """

    def __init__(self, spool: Spool, *, on_stored: Callable[[], None] | None = None) -> None:
        self._spool = spool
        self._on_stored = on_stored
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._room = threading.Semaphore(spool.settings.batch)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self.failure: Exception | None = None
        self.waits_for_room = False
        """Whether the disk is full and everybody waits until it is not."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def store(self, record: Record) -> Future[None]:
        """Have a record committed; waits while the disk is behind."""
        while not self._room.acquire(timeout=0.2):
            if self.failure:
                raise self.failure
        future = self._put(_Job(lambda spool: spool.commit([record]), Future(), record=True))
        future.add_done_callback(lambda _: self._room.release())
        return future

    def call(self, action: Callable[[Spool], T]) -> Future[T]:
        """Run `action(spool)` in the next group; its future is done when that is durable. Never waits."""
        return self._put(_Job(action, Future()))

    def _put(self, job: _Job) -> Future[Any]:
        self._jobs.put(job)
        if self.failure:
            self._refuse_rest(self.failure)
        return job.future

    def close(self) -> None:
        """Commit what waits, then close the spool."""
        if self._thread.is_alive():
            self._closing.set()
            self._jobs.put(_Job(lambda _: None, Future(), stop=True))
            self._thread.join()
        self._spool.close()

    def _run(self) -> None:
        ending = False
        while not self.failure and not ending:
            group = [self._jobs.get()]
            while len(group) < GROUP and not group[-1].stop:
                try:
                    group.append(self._jobs.get_nowait())
                except queue.Empty:
                    break
            ending = group[-1].stop
            # From here on a caller cannot cancel: what is begun is committed.
            self._commit([job for job in group if job.future.set_running_or_notify_cancel()])
        if self.failure:
            self._refuse_rest(self.failure)

    def _refuse_rest(self, failure: Exception) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(failure)

    def _commit(self, group: list[_Job]) -> None:
        try:
            results = self._write(group)
        except Exception as error:  # noqa: BLE001 whatever it is, those who wait must hear of it
            self.failure = error
            for job in group:
                job.future.set_exception(error)
            return
        for job, result in zip(group, results, strict=True):
            job.future.set_result(result)
        while self._spool.notices:
            _log.warning("%s", self._spool.notices.pop(0))
        if self._on_stored and any(job.record for job in group):
            self._on_stored()

    def _write(self, group: list[_Job]) -> list[Any]:
        waited = False
        while True:
            try:
                with self._spool.transaction():
                    results = [job.action(self._spool) for job in group]
            except SpoolFullError as error:
                if self._closing.is_set():
                    raise SpoolError(f"{error}; what was not committed will be read again") from None
                if not waited:
                    _log.warning("%s", error)
                waited = self.waits_for_room = True
                self._closing.wait(RETRY_S)
                continue
            if waited:
                self.waits_for_room = False
                _log.warning("%s: there is room again", self._spool.path)
            return results
