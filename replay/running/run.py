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
from replay.running.folder import RunFolder
from replay.running.models import LoadedModels
from replay.running.plan import Job, Plan, Variant, check
from replay.running.stamp import Stamp, Stamps
from replay.running.workers.crew import Crew, drive
from replay.running.workers.lock import Held, locked
from replay.running.workers.pool import LocalCrew
from replay.running.workers.progress import Board, board
from replay.running.workers.work import Work, do
from replay.sources.jobs import open_job

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
        for variant in plan.variants:
            RunFolder.of(out, variant).write_manifest(plan, variant, plan.mode)
        todo = Todo.of(plan, out, again=engine.again)
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


@dataclass(frozen=True, slots=True)
class Todo:
    """What of a plan is not done, and what a person may want to know of that.

    `stamps` are what decides the outcome of each variant that is to be run, by the job's name and its own.
    """

    jobs: list[Job]
    stamps: dict[tuple[str, str], Stamp]
    remarks: list[str]

    @classmethod
    def of(cls, plan: Plan, out: Path, *, again: bool) -> Todo:
        """Raises `FusionError` for models that are not there."""
        made, todo = Stamps(plan), cls([], {}, [])
        for job in plan.jobs:
            stamps = {variant: made.of(job, variant) for variant in plan.variants}
            waiting = stamps if again else _waiting(plan, job, out, stamps, todo.remarks)
            todo.stamps.update({(job.name, variant.name): stamp for variant, stamp in waiting.items()})
            todo.jobs.extend([job] if waiting else [])
        if done := len(plan.jobs) - len(todo.jobs):
            todo.remarks.append(f"{done} of {len(plan.jobs)} recordings are done already; --again runs them again")
        return todo


def _waiting(plan: Plan, job: Job, out: Path, stamps: dict[Variant, Stamp], remarks: list[str]) -> dict[Variant, Stamp]:
    """The variants that `job` is to be run under; `remarks` get why where somebody may wonder."""
    found = {variant: RunFolder.of(out, variant).done(job.name) for variant in stamps}
    if not any(found.values()):
        return stamps
    try:
        content = open_job(job, plan.task).info().content_sha256
    except FusionError:
        return stamps  # told when it is run
    waiting = {}
    for variant, stamp in stamps.items():
        wanted, done = stamp.with_recording(content), found[variant]
        if done.get("key") == wanted.key:
            continue
        waiting[variant] = stamp
        if done:
            why = wanted.differences(done.get("stamp") or {})
            name = f"{job.name}, {variant.name}" if variant.name else job.name
            remarks.append(f"{name}: run again, for other than when it was run: {why}")
    return waiting


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
