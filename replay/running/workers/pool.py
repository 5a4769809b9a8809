"""Workers as processes of this machine, each with models of its own, loaded once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import DupFd
from typing import Any, NoReturn

from tqdm import tqdm

from fusion.errors import UnavailableError
from replay.running.models import LoadedModels
from replay.running.modes.mode import Mode
from replay.running.plan import Job
from replay.running.workers.crew import Done, Event, Lost
from replay.running.workers.failure import Failure
from replay.running.workers.watch import Progress
from replay.running.workers.work import Work, do, environment

_SPAWN = multiprocessing.get_context("spawn")
_END_S = 10.0


class LocalCrew:
    """See `crew.Crew`. Every worker holds `lock`, so that the folder is in use until all are gone."""

    def __init__(self, size: int, work: Work, lock: int) -> None:
        self.size = size
        self._work, self._lock = work, lock
        self._workers: list[_Worker | None] = [None] * size

    def give(self, worker: int, job: Job) -> None:
        """See `Crew`."""
        found = self._workers[worker]
        if found is None:
            found = self._workers[worker] = _Worker(self._work, self._lock)
        found.give(job)

    def events(self, timeout_s: float) -> list[tuple[int, Event]]:
        """See `Crew`."""
        told: list[tuple[int, Event]] = []
        ends = {one.end: number for number, one in enumerate(self._workers) if one}
        for end in connection.wait(list(ends), timeout_s):
            number = ends[end]  # type: ignore[index]
            found = self._workers[number]
            assert found
            event = found.receive()
            if isinstance(event, Lost):
                self._workers[number] = None
                if not found.busy:
                    continue
            told.append((number, event))
        return told

    def close(self) -> None:
        """See `Crew`."""
        for one in filter(None, self._workers):
            one.end_now()
        self._workers = [None] * self.size


class _Worker:
    """One process and the near end of the pipe to it."""

    def __init__(self, work: Work, lock: int) -> None:
        self.busy = False
        self.end, far = _SPAWN.Pipe()
        try:
            with environment(work.threads), _not_interrupted():
                self._process: SpawnProcess = _SPAWN.Process(
                    target=_serve, args=(far, _Passed(lock), work), name="replay worker", daemon=True
                )
                self._process.start()
        except OSError as error:
            raise UnavailableError(f"a worker cannot be started ({error.strerror}); use fewer --workers") from None
        finally:
            far.close()

    def give(self, job: Job) -> None:
        """Have it run `job`; one that is dead tells so by `receive`."""
        self.busy = True
        with suppress(OSError):
            self.end.send(job)

    def receive(self) -> Event:
        """What it said, or that it is dead."""
        try:
            event: Event = self.end.recv()
        except (EOFError, OSError):
            self._process.join()
            self.end.close()
            return Lost(_death(self._process.exitcode))
        self.busy = isinstance(event, Progress)
        return event

    def end_now(self) -> None:
        """End it, whatever it does: one that waits for work ends when nobody is there to give it any."""
        self.end.close()
        if self.busy:
            self._process.terminate()
        self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


class _Passed:
    """An open file that goes to the worker with what it is started with."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __reduce__(self) -> tuple[Any, ...]:
        return _taken, (DupFd(self._descriptor),)


def _taken(duplicate: Any) -> int:
    return int(duplicate.detach())


@contextmanager
def _not_interrupted() -> Iterator[None]:
    """A worker is born ignoring Ctrl-C, which reaches all processes of a terminal: its parent tells it when to end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, kept)


def _serve(end: Connection, lock: int, work: Work) -> None:
    """A worker's life: job after job until there is nobody to ask for one."""
    del lock  # held open until this process ends
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if work.plan.mode is Mode.LIVE:
        signal.signal(signal.SIGTERM, _end)  # which leaves time to end the daemon in order
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a worker that is ended leaves behind
    threading.Thread(target=_end_with_parent, daemon=True).start()
    models = LoadedModels()
    while True:
        try:
            job: Job = end.recv()
        except (EOFError, OSError):
            return
        end.send(_attempt(end, job, work, models))


def _end(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


def _attempt(end: Connection, job: Job, work: Work, models: LoadedModels) -> Done | Failure:
    try:
        do(work, job, models, end.send)
    except Exception as error:  # noqa: BLE001 told at the other end
        return Failure.of(error)
    return Done()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"it ended with code {code}"
