"""A stage of the pipeline in a thread of its own, behind a bounded queue."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")
DEPTH = 1
"""Jobs that wait between two stages. One keeps the next stage busy; more would only make samples older."""
_POLL_S = 0.2


class Relay(Generic[Job]):
    """Hands jobs to `work`, in order, in a thread of its own.

    `put` waits while `DEPTH` jobs wait already. What `work` raises ends the thread, and is raised by the next `put`
    or by `close`; jobs behind it are not worked on.
    """

    def __init__(self, work: Callable[[Job], object], name: str) -> None:
        self._work = work
        self._jobs: queue.Queue[Job | None] = queue.Queue(maxsize=DEPTH)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Hand over `job`. Raises what `work` raised."""
        self._put(job)
        self._tell()

    def close(self) -> None:
        """Wait until everything handed over is done, and end the thread. Raises what `work` raised, once."""
        self._put(None)
        self._thread.join()
        self._tell()

    def _put(self, job: Job | None) -> None:
        while self._thread.is_alive():
            try:
                self._jobs.put(job, timeout=_POLL_S)
            except queue.Full:
                continue
            return

    def _tell(self) -> None:
        if error := self._error:
            self._error = None
            raise error

    def _run(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                self._work(job)
        except Exception as error:  # noqa: BLE001 told by whoever hands over
            self._error = error
