"""The service alone: its own code on recorded evidence, and nothing of the device."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from edge_node.spool import Spool
from edge_node.spool.copying import SpoolCopy, SpooledSample
from fusion.task import Task
from replay.running.folder import RunFolder
from replay.running.lane import remove_database
from replay.running.models import LoadedModels
from replay.running.modes.recorded import Recorded, open_recorded
from replay.running.plan import Job, Plan
from replay.running.review import AtTheEnd


def review_recorded(plan: Plan, job: Job, out: Path, models: LoadedModels, *, quiet: bool = False) -> None:
    """Have a job's evidence reviewed under every variant of `plan`; both databases of each are written anew.

    Raises `FusionError` naming the file that is wrong.
    """
    recorded = open_recorded(job)
    for one in plan.prepared(job):
        folder = RunFolder.of(out, one.variant)
        path = folder.spool(job.name)
        _restore(recorded, plan.task, path)
        names = recorded.names
        spool = Spool.open(path, names.device, names.task, settings=one.edge.spool)
        try:
            reviewers = models.reviewers(one.cloud.reviewers)
            AtTheEnd(spool, reviewers, folder.ledger(job.name), one.cloud, quiet=quiet).finish()
        finally:
            spool.close()


def _restore(recorded: Recorded, task: Task, path: Path) -> None:
    """Make the spool at `path` as the device had it before anything was answered, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    remove_database(part)
    copy = SpoolCopy(part, recorded.names)
    try:
        for record in recorded.records(task):
            if isinstance(record, SpooledSample):
                copy.sample(record)
            else:
                copy.gap(record)
    except BaseException:
        with suppress(Exception):
            copy.close(commit=False)
        remove_database(part)
        raise
    copy.close()
    remove_database(path)
    part.replace(path)
