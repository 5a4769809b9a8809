"""What a run asks of workers, wherever they are, and the loop that gives them work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from fusion.errors import FusionError
from replay.running.plan import Job
from replay.running.workers.dispatch import Dispatch
from replay.running.workers.failure import Failure
from replay.running.workers.progress import Board
from replay.running.workers.watch import Progress


@dataclass(frozen=True, slots=True)
class Done:
    """The recording was run to its end and marked so."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker died."""

    reason: str


Event: TypeAlias = Progress | Done | Failure | Lost


class Crew(Protocol):
    """`size` workers, numbered from 0, each at one recording at a time."""

    size: int

    def give(self, worker: int, job: Job) -> None:
        """Have a free worker run `job`; one that died is replaced first. Raises `FusionError` where none can be."""

    def events(self, timeout_s: float) -> list[tuple[int, Event]]:
        """What workers told since the last call; empty after `timeout_s` of silence.

        After `Done`, `Failure` or `Lost` the worker is free.
        """

    def close(self) -> None:
        """End all workers, also in the middle of a recording."""


def drive(crew: Crew, jobs: Sequence[Job], board: Board) -> dict[str, FusionError]:
    """Have `crew` run all `jobs`; why those that failed did, by name. Raises `WorkerDefect`."""
    dispatch, free, doing = Dispatch(jobs), list(range(crew.size)), dict[int, Job]()
    while not dispatch.over:
        while free and (job := dispatch.next()):
            worker = free.pop(0)
            doing[worker] = job
            crew.give(worker, job)
            board.told(worker, Progress(job.name, 0.0, 0.0, "starting"))
        for worker, event in crew.events(timeout_s=1.0):
            if isinstance(event, Progress):
                board.told(worker, event)
                continue
            _settle(dispatch, board, doing.pop(worker), event)
            board.idle(worker)
            free.append(worker)
    return dispatch.failures


def _settle(dispatch: Dispatch, board: Board, job: Job, event: Done | Failure | Lost) -> None:
    if isinstance(event, Done):
        dispatch.done(job.name)
        board.ended(job.name)
    elif isinstance(event, Failure):
        error = event.error
        if not isinstance(error, FusionError):
            raise error
        dispatch.failed(job.name, error)
        board.ended(job.name, str(error))
    elif dispatch.lost(job.name, event.reason):
        board.note(f"{job.name}: its worker died ({event.reason}); it is run once more")
    else:
        board.ended(job.name, str(dispatch.failures[job.name]))
