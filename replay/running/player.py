"""One recording through both nodes' own code, in one process and one thread, under one variant or several at once.

Nothing waits and nothing is dropped. The clock that durations are measured with is real; what is decided does not
depend on it, so the same recording on the same machine gives the same decisions and verdicts. Variants that look at the
same readings with the same models share one pass: the models look at each sample once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from edge_node.sources import RecordingSource
from edge_node.spool import Spool
from fusion.clock import SystemClock
from fusion.task import Task
from fusion.types import Reading
from replay.running.folder import RunFolder
from replay.running.lane import Delivery, Heard, Lane
from replay.running.models import LoadedModels
from replay.running.plan import Job, Plan, Prepared
from replay.running.review import AtTheEnd
from replay.running.sharing import SharedModels
from replay.running.sources import open_job
from replay.running.usable import check_usable


def play(plan: Plan, job: Job, out: Path, models: LoadedModels, *, quiet: bool = False) -> None:
    """Run `job` under every variant of `plan`; both databases of each are written anew under `out` (`RunFolder`).

    Raises `FusionError` naming the key or file that is wrong.
    """
    for together in passes(plan.prepared(job)):
        _pass(plan.task, job, together, out, models, quiet=quiet)


def passes(variants: Sequence[Prepared]) -> list[list[Prepared]]:
    """Variants that can share a pass: what the models see, and the models, are the same."""
    groups: dict[str, list[Prepared]] = {}
    for one in variants:
        edge = one.edge
        key = "\n".join((edge.models, edge.engine.model_dump_json(), edge.synchronizer.model_dump_json()))
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def _pass(task: Task, job: Job, variants: list[Prepared], out: Path, models: LoadedModels, *, quiet: bool) -> None:
    first = variants[0]
    source = RecordingSource(open_job(job, task))
    check_usable(job.source, source, task, first.edge)
    shared = SharedModels(models.perception(task, first.edge), len(variants))
    heard = Heard(source.content, source.continuous, source.rig)
    with ExitStack() as stack:
        lanes = []
        for one in variants:
            folder = RunFolder.of(out, one.variant)
            folder.job(job.name).mkdir(parents=True, exist_ok=True)

            def deliver(spool: Spool, one: Prepared = one, folder: RunFolder = folder) -> Delivery:
                reviewers = models.reviewers(one.cloud.reviewers)
                return AtTheEnd(spool, reviewers, folder.ledger(job.name), one.cloud, quiet=quiet)

            lane = Lane(task, job, one, heard, shared, folder.spool(job.name), deliver)
            stack.callback(lane.close)
            lanes.append(lane)
        for cursor, reading, source_ns in _timed(source, quiet=quiet):
            for lane in lanes:
                lane.feed(cursor, reading, source_ns)
        for lane in lanes:
            lane.finish()


def _timed(source: RecordingSource, *, quiet: bool) -> Iterator[tuple[int, Reading, int]]:
    """Readings with what reading and decoding each took, in nanoseconds."""
    clock = SystemClock()
    readings = tqdm(source.readings(0), desc="screen", unit="reading", disable=quiet or None)
    began = clock.monotonic_ns()
    for cursor, reading in readings:
        yield cursor, reading, clock.monotonic_ns() - began
        began = clock.monotonic_ns()
