"""Workers as Ray actors, on this machine or a cluster's; one recording a call, models loaded once an actor.

A worker that sees the run's folder, by a disk they share, writes into it. One that does not writes into a folder of its
own and has the files fetched, piece by piece; `done.json` comes last. What crosses are plain values and small types of
the project, as between `fusion.review.replicas` and its actors.
"""

from __future__ import annotations

import importlib
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fusion.errors import FusionError, InputError
from fusion.review.replicas.cluster import Cluster
from replay.running.folder import DONE_NAME, RunFolder
from replay.running.plan import Job
from replay.running.workers.crew import Done, Event, Lost
from replay.running.workers.failure import Failure
from replay.running.workers.lock import is_here
from replay.running.workers.watch import Progress
from replay.running.workers.work import Work, do

PIECE_BYTES = 8 << 20
WATCH, WORK = "watch", "work"
"""Concurrency groups, a thread each."""
NEWS_S = 5.0
"""How long an actor waits for news before it says that there are none; asked more often, it would do little else."""


@dataclass(frozen=True, slots=True)
class Files:
    """What is to be fetched of a worker that does not see the run's folder: paths under it, in this order."""

    names: tuple[str, ...]


class JobActor:
    """The far end. Ray calls `progress` in one thread and everything else in another."""

    def __init__(self, work: Work, token: str) -> None:
        self._work, self._token = work, token
        self._news: Progress | None = None
        self._told = threading.Condition()
        self._models: Any = None
        self._own: tempfile.TemporaryDirectory[str] | None = None

    def run(self, job: Job) -> Done | Files | Failure:
        """Run `job` where the run's folder is, else in a folder of its own."""
        from replay.running.models import LoadedModels

        self._models = self._models or LoadedModels()
        self._news = None
        try:
            if is_here(self._work.out, self._token):
                do(self._work, job, self._models, self._tell)
                return Done()
            self._own = self._own or tempfile.TemporaryDirectory(prefix="replay-")
            work = replace(self._work, out=Path(self._own.name))
            do(work, job, self._models, self._tell)
            return Files(tuple(_files(work, job)))
        except Exception as error:  # noqa: BLE001 told at the other end
            return Failure.of(error)

    def read(self, name: str, offset: int, size: int) -> bytes:
        """A piece of one of its own files; empty behind its end."""
        assert self._own
        with (Path(self._own.name) / name).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def remove(self, names: tuple[str, ...]) -> None:
        """They were fetched."""
        assert self._own
        for name in names:
            (Path(self._own.name) / name).unlink(missing_ok=True)

    def progress(self, wait_s: float = NEWS_S) -> Progress | None:
        """How far it is, as soon as that was not told yet; None after `wait_s` without news."""
        with self._told:
            self._told.wait_for(lambda: self._news is not None, wait_s)
            news, self._news = self._news, None
        return news

    def _tell(self, progress: Progress) -> None:
        with self._told:
            self._news = progress
            self._told.notify_all()


def _files(work: Work, job: Job) -> Iterator[str]:
    for variant in work.plan.variants:
        folder = RunFolder.of(work.out, variant).job(job.name)
        files = [path for path in folder.rglob("*") if path.is_file()]
        for path in sorted(files, key=lambda one: (one.name == DONE_NAME, one)):
            yield path.relative_to(work.out).as_posix()


class RayCrew:
    """See `replay.running.workers.crew.Crew`. `address` is a cluster's, empty for an instance of Ray of one's own."""

    def __init__(self, size: int, work: Work, token: str, address: str) -> None:
        self.size = size
        self._work, self._token = work, token
        self._cluster = Cluster.open(address)
        self._ray: Any = self._cluster.ray
        self._errors: Any = importlib.import_module("ray.exceptions")
        made = self._ray.remote(concurrency_groups={WATCH: 1, WORK: 1})(JobActor)
        self._made = made.options(num_cpus=work.threads if address else 0, max_restarts=0, scheduling_strategy="SPREAD")
        self._actors: list[Any] = [None] * size
        self._running: dict[Any, int] = {}
        self._asked: dict[Any, int] = {}

    def give(self, worker: int, job: Job) -> None:
        """See `Crew`."""
        if self._actors[worker] is None:
            self._actors[worker] = self._made.remote(self._work, self._token)
        actor = self._actors[worker]
        self._running[actor.run.options(concurrency_group=WORK).remote(job)] = worker
        self._ask(worker)

    def events(self, timeout_s: float) -> list[tuple[int, Event]]:
        """See `Crew`."""
        waiting = [*self._running, *self._asked]
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout_s)
        ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0) if ready else (ready, None)
        told: list[tuple[int, Event]] = []
        for one in ready:
            event = self._ended(one) if one in self._running else self._progress(one)
            told += [event] if event else []
        return told

    def close(self) -> None:
        """See `Crew`."""
        for actor in filter(None, self._actors):
            self._ray.kill(actor)
        self._actors = [None] * self.size
        self._cluster.close()

    def _ask(self, worker: int) -> None:
        if worker in self._asked.values():
            return  # at the end of its last recording
        asked = self._actors[worker].progress.options(concurrency_group=WATCH).remote()
        self._asked[asked] = worker

    def _progress(self, asked: Any) -> tuple[int, Event] | None:
        worker = self._asked.pop(asked, None)
        if worker is None or worker not in self._running.values():
            return None
        try:
            told: Progress | None = self._ray.get(asked)
        except self._errors.RayError:
            return None  # the run itself tells it
        self._ask(worker)
        return (worker, told) if told else None

    def _ended(self, running: Any) -> tuple[int, Event]:
        worker = self._running.pop(running)
        try:
            event: Done | Files | Failure = self._ray.get(running)
            return worker, self._fetched(worker, event) if isinstance(event, Files) else event
        except self._errors.RayTaskError as error:
            return worker, Failure("", str(error))
        except self._errors.RayError as error:
            self._ray.kill(self._actors[worker])
            self._actors[worker] = None
            self._asked = {asked: of for asked, of in self._asked.items() if of != worker}
            return worker, Lost(" ".join(str(error).split())[:200])

    def _fetched(self, worker: int, files: Files) -> Done | Failure:
        try:
            self._clear({(self._work.out / name).parent for name in files.names})
            for name in files.names:
                self._fetch(self._actors[worker], name)
        except FusionError as error:
            return Failure.of(error)
        self._ray.get(self._actors[worker].remove.options(concurrency_group=WORK).remote(files.names))
        return Done()

    def _clear(self, folders: set[Path]) -> None:
        """What an earlier run left there is not taken for this one's: not done any more first, then all else."""
        for folder in folders:
            try:
                left = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
                for path in sorted(left, key=lambda one: one.name != DONE_NAME):
                    path.unlink()
            except OSError as error:
                raise InputError(f"{folder}: cannot be cleared ({error.strerror})") from None

    def _fetch(self, actor: Any, name: str) -> None:
        path = self._work.out / name
        part = path.with_name(f"{path.name}.part")
        read = actor.read.options(concurrency_group=WORK)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                while piece := self._ray.get(read.remote(name, file.tell(), PIECE_BYTES)):
                    file.write(piece)
            part.replace(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from None
