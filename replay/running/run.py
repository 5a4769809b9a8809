"""A whole run: every recording that is not done yet, by one worker or several."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from fusion.errors import FusionError
from replay.running.failures import Failures
from replay.running.models import LoadedModels
from replay.running.plan import Job, Plan, check
from replay.running.todo import Todo, begin
from replay.running.workers.crew import Crew, drive
from replay.running.workers.lock import Held, locked
from replay.running.workers.pool import LocalCrew
from replay.running.workers.progress import Board, board
from replay.running.workers.work import Work, do

LOCAL: Literal["local"] = "local"
RAY: Literal["ray"] = "ray"


@dataclass(frozen=True, slots=True)
class Engine:
    """Who runs a plan: one worker in this process, or `workers` processes here or Ray actors.

    `address` is a Ray cluster's, empty for an instance of one's own. `again` runs what is done, too.
    """

    kind: Literal["local", "ray"] = LOCAL
    workers: int = 1
    address: str = ""
    again: bool = False
    quiet: bool = False


def run(plan: Plan, out: Path, engine: Engine = Engine(), held: Held | None = None) -> Failures:
    """Run what is not done in `out` yet; what of it failed, which keeps nothing else from being run.

    Whoever goes on with what lies there afterwards has `out` `locked` before and gives what it `held`.
    Raises `FusionError` where every recording would fail; `KeyboardInterrupt` on SIGTERM, too.
    """
    check(plan)
    with nullcontext(held) if held else locked(out) as mine, _terminable():
        todo = Todo.of(plan, out, again=engine.again)
        begin(plan, out, todo)
        with board(len(todo.jobs), quiet=engine.quiet) as shown:
            for remark in todo.remarks:
                shown.remark(remark)
            try:
                failures = _run(Work(plan, out, todo.stamps), todo.jobs, engine, mine, shown) if todo.jobs else {}
            except KeyboardInterrupt:
                shown.note("ended before its time; the same command goes on with what is not done")
                raise
        found = Failures.of(plan.jobs, failures)
        found.write(out)
    return found


def _run(work: Work, jobs: list[Job], engine: Engine, held: Held, shown: Board) -> dict[str, FusionError]:
    if engine.kind == LOCAL and engine.workers == 1:
        return _here(work, jobs, shown)
    with closing(_crew(work, min(engine.workers, len(jobs)), engine, held)) as crew:
        return drive(crew, jobs, shown)


def _crew(work: Work, size: int, engine: Engine, held: Held) -> Crew:
    if engine.kind == LOCAL:
        return LocalCrew(size, work, held.descriptor)
    from replay.running.workers.on_ray import RayCrew

    return RayCrew(size, work, held.token, engine.address)


def _here(work: Work, jobs: list[Job], shown: Board) -> dict[str, FusionError]:
    models, failures = LoadedModels(), dict[str, FusionError]()
    for job in jobs:
        try:
            do(work, job, models, lambda progress: shown.told(0, progress))
        except FusionError as error:
            failures[job.name] = error
            shown.ended(job.name, str(error))
        else:
            shown.ended(job.name)
    return failures


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: workers are ended, and the same command goes on from there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    kept = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, kept)
