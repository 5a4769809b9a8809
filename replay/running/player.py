"""One recording through both nodes' own code, in one process and one thread, under one variant or several at once.

Nothing waits and nothing is dropped. The clock that durations are measured with is real; what is decided does not
depend on it, so the same recording on the same machine gives the same decisions and verdicts. Variants that look at the
same readings with the same models share one pass: the models look at each sample once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from edge_node.sources import RecordingSource
from edge_node.spool import Spool
from fusion.clock import SystemClock
from fusion.types import Reading
from replay.live.paced import play_live
from replay.running.folder import RunFolder
from replay.running.lane import Delivery, Heard, Lane
from replay.running.models import LoadedModels
from replay.running.modes.cloud_only import review_recorded
from replay.running.modes.edge_only import ToEvidence
from replay.running.modes.mode import Mode
from replay.running.plan import Job, Plan, Prepared
from replay.running.review import AtTheEnd
from replay.running.sharing import SharedModels
from replay.running.sources import open_job
from replay.running.watch import Watch


def play(
    plan: Plan, job: Job, out: Path, models: LoadedModels, *, watch: Watch | None = None, quiet: bool = False
) -> str:
    """Run `job` under every variant of `plan`; both databases of each are written anew under `out` (`RunFolder`).

    The SHA-256 of what the recording holds. Raises `FusionError` naming the key or file that is wrong.
    """
    content, watch = "", watch or Watch(job.name)
    match plan.mode:
        case Mode.CLOUD_ONLY:
            review_recorded(plan, job, out, models, quiet=quiet)
        case Mode.LIVE:
            play_live(plan, job, out)
        case Mode.BOTH | Mode.EDGE_ONLY:
            for together in passes(plan.prepared(job)):
                content = _pass(plan, job, together, out, models, watch, quiet=quiet)
    return content or open_job(job, plan.task).info().content_sha256


def passes(variants: Sequence[Prepared]) -> list[list[Prepared]]:
    """Variants that can share a pass: what the models see, and the models, are the same."""
    groups: dict[str, list[Prepared]] = {}
    for one in variants:
        edge = one.edge
        key = "\n".join((edge.models, edge.engine.model_dump_json(), edge.synchronizer.model_dump_json()))
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def _pass(
    plan: Plan, job: Job, variants: list[Prepared], out: Path, models: LoadedModels, watch: Watch, *, quiet: bool
) -> str:
    task, first = plan.task, variants[0]
    shared = SharedModels(models.perception(task, first.edge), len(variants))
    reader = open_job(job, task)
    source = RecordingSource(reader)
    watch.begin(reader.info())
    heard = Heard(source.content, source.continuous, source.rig)
    with ExitStack() as stack:
        lanes = []
        for one in variants:
            folder = RunFolder.of(out, one.variant)
            folder.job(job.name).mkdir(parents=True, exist_ok=True)

            def deliver(spool: Spool, one: Prepared = one, folder: RunFolder = folder) -> Delivery:
                if plan.mode is Mode.EDGE_ONLY:
                    return ToEvidence(spool, reader, job, folder)
                reviewers = models.reviewers(one.cloud.reviewers)
                return AtTheEnd(spool, reviewers, folder.ledger(job.name), one.cloud, quiet=quiet)

            lane = Lane(task, job, one, heard, shared, folder.spool(job.name), deliver)
            stack.callback(lane.close)
            lanes.append(lane)
        for cursor, reading, source_ns in _timed(source, watch):
            for lane in lanes:
                lane.feed(cursor, reading, source_ns)
        watch.reviewing()
        for lane in lanes:
            lane.finish()
    return source.content


def _timed(source: RecordingSource, watch: Watch) -> Iterator[tuple[int, Reading, int]]:
    """Readings with what reading and decoding each took, in nanoseconds."""
    clock = SystemClock()
    began = clock.monotonic_ns()
    for cursor, reading in source.readings(0):
        now = clock.monotonic_ns()
        watch.at(reading.capture_time_ns, now)
        yield cursor, reading, now - began
        began = clock.monotonic_ns()
