"""What of a plan is not done in a run's folder, and what of another run goes before this one begins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fusion.errors import FusionError, InputError
from replay.running.folder import RunFolder
from replay.running.plan import Job, Plan, Variant
from replay.running.stamp import Stamp, Stamps
from replay.sources.jobs import open_job


@dataclass(frozen=True, slots=True)
class Todo:
    """What of a plan is not done, and what a person may want to know of that.

    `stamps` are what decides the outcome of each variant that is to be run, by the job's name and its own. `outdated`
    are variants and names of jobs that were done under other settings or of another content.
    """

    jobs: list[Job]
    stamps: dict[tuple[str, str], Stamp]
    remarks: list[str]
    outdated: list[tuple[Variant, str]]

    @classmethod
    def of(cls, plan: Plan, out: Path, *, again: bool) -> Todo:
        """Raises `FusionError` for models that are not there."""
        made, todo = Stamps(plan), cls([], {}, [], [])
        for job in plan.jobs:
            stamps = {variant: made.of(job, variant) for variant in plan.variants}
            if waiting := todo._waiting(plan, job, out, stamps, again=again):
                todo.jobs.append(job)
            todo.stamps.update({(job.name, variant.name): stamps[variant] for variant in waiting})
        if done := len(plan.jobs) - len(todo.jobs):
            todo.remarks.append(f"{done} of {len(plan.jobs)} recordings are done already; --again runs them again")
        return todo

    def _waiting(self, plan: Plan, job: Job, out: Path, stamps: dict[Variant, Stamp], *, again: bool) -> list[Variant]:
        """The variants that `job` is to be run under, having noted which are outdated and why."""
        found = {variant: RunFolder.of(out, variant).done(job.name) for variant in stamps}
        content = _content(plan, job) if any(found.values()) and not again else ""
        waiting = []
        for variant, stamp in stamps.items():
            done, was = found[variant], found[variant].get("stamp") or {}
            wanted = stamp.with_recording(content or was.get("recording", ""))
            fits = bool(done) and done.get("key") == wanted.key
            if fits and content:
                continue
            waiting.append(variant)
            if done and not fits:
                self.outdated.append((variant, job.name))
                name = f"{job.name}, {variant.name}" if variant.name else job.name
                why = wanted.differences(was)
                self.remarks.append(f"{name}: run again, for other than when it was run: {why}")
        return waiting


def begin(plan: Plan, out: Path, todo: Todo) -> None:
    """Take away what lies in `out` and is not of this run, then note what is run.

    Raises `InputError` naming what cannot be removed, and for evidence that lies where the run writes.
    """
    folders = {variant: RunFolder.of(out, variant) for variant in plan.variants}
    places = {folder.job(job.name).resolve() for folder in folders.values() for job in plan.jobs}
    for evidence in (Path(job.evidence).resolve() for job in plan.jobs if job.evidence):
        if place := next(iter(places & {evidence, evidence.parent}), None):
            raise InputError(f"{place}: the evidence lies there; give another --out")
    for folder in folders.values():
        folder.forget_outcome()
    for variant, name in todo.outdated:
        folders[variant].forget(name)
    for variant, folder in folders.items():
        folder.write_manifest(plan, variant, plan.mode)


def _content(plan: Plan, job: Job) -> str:
    """The SHA-256 of what the recording holds; empty where it cannot be had, which is told when it is run."""
    try:
        return open_job(job, plan.task).info().content_sha256
    except FusionError:
        return ""
