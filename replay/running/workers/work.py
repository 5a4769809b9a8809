"""What a worker does with a recording, wherever it runs."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from replay.running.folder import RunFolder
from replay.running.models import LoadedModels
from replay.running.plan import Job, Plan, Prepared
from replay.running.player import play
from replay.running.stamp import Stamp
from replay.running.workers.watch import Tell, Watch
from replay.sources.jobs import open_job

_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Work:
    """All of a run that workers must know. `stamps` are of what is to be run, by the job's and the variant's name."""

    plan: Plan
    out: Path
    stamps: Mapping[tuple[str, str], Stamp]

    @property
    def threads(self) -> int:
        """Threads that libraries compute with in a worker, whatever the machine."""
        return Prepared.of(self.plan.task, self.plan.jobs[0], self.plan.variants[0]).cloud.threads


def do(work: Work, job: Job, models: LoadedModels, tell: Tell | None = None) -> None:
    """Run `job` under every variant that is to be run, and mark it done. Raises `FusionError`."""
    variants = tuple(variant for variant in work.plan.variants if (job.name, variant.name) in work.stamps)
    plan, folders = replace(work.plan, variants=variants), {one.name: RunFolder.of(work.out, one) for one in variants}
    if any(folder.done(job.name) for folder in folders.values()):
        open_job(job, plan.task)  # where it cannot be had, what is done stays
    for folder in folders.values():
        folder.forget(job.name)
    with pinned(work.threads):
        content = play(plan, job, work.out, models, watch=Watch(job.name, tell), quiet=True)
    for name, folder in folders.items():
        stamp = work.stamps[job.name, name].with_recording(content)
        folder.mark_done(job.name, stamp.key, stamp=dict(stamp.parts))


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Have torch compute with so many threads: what it sums depends on how many there are.

    The device's engines get theirs from `edge.engine.threads`. So the outcome depends on settings, never on how many
    workers or cores there are.
    """
    if "torch" in sys.modules:
        importlib.import_module("torch").set_num_threads(threads)
    with environment(threads):
        yield


@contextmanager
def environment(threads: int) -> Iterator[None]:
    """What libraries find that are imported meanwhile, and processes that are started; as it was afterwards."""
    kept = {name: os.environ.get(name) for name in _POOLS}
    os.environ.update(dict.fromkeys(_POOLS, str(threads)))
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
