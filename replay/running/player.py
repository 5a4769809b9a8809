"""One recording through both nodes' own code, in one process and one thread, under one variant or several at once.

Nothing waits and nothing is dropped. The clock that durations are measured with is real; what is decided does not
depend on it, so the same recording on the same machine gives the same decisions and verdicts. Variants that look at the
same readings with the same models share one pass: the models look at each sample once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from stat import S_ISREG

from edge_node.sources import RecordingSource
from edge_node.spool import Spool
from fusion.clock import SystemClock
from fusion.errors import RecordingError
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
from replay.running.usable import check_usable
from replay.running.workers.watch import Watch
from replay.sources.jobs import open_job
from replay.whatif.need import with_rates
from replay.whatif.sensors import altered, altered_rig
from replay.whatif.surroundings import Surroundings
from replay.whatif.world import WorldSettings


def play(
    plan: Plan, job: Job, out: Path, models: LoadedModels, *, watch: Watch | None = None, quiet: bool = False
) -> str:
    """Run `job` under every variant of `plan`; both databases of each are written anew under `out` (`RunFolder`).

    The SHA-256 of what the recording holds. Raises `FusionError` naming the key or file that is wrong.
    """
    watch, before = watch or Watch(job.name), _state(job)

    def together(variants: Sequence[Prepared], to: Path) -> None:
        for one in passes(variants):
            _pass(plan, job, one, to, models, watch, quiet=quiet)

    match plan.mode:
        case Mode.CLOUD_ONLY:
            review_recorded(plan, job, out, models, quiet=quiet)
        case Mode.LIVE:
            play_live(plan, job, out)
        case Mode.BOTH | Mode.EDGE_ONLY:
            together(with_rates(job, plan.prepared(job), together), out)
    if _state(job) != before:
        raise RecordingError(f"{job.source}: changed while it was run; run it again when it is whole")
    return open_job(job, plan.task).info().content_sha256


def _state(job: Job) -> tuple[int, int]:
    """Size and time of change of a recording that is a file here; of others a run holds a copy, or many files."""
    try:
        stat = Path(job.source).stat()
    except (OSError, ValueError):
        return 0, 0
    return (stat.st_size, stat.st_mtime_ns) if S_ISREG(stat.st_mode) else (0, 0)


def passes(variants: Sequence[Prepared]) -> list[list[Prepared]]:
    """Variants that can share a pass: what the models see, and the models, are the same."""
    groups: dict[str, list[Prepared]] = {}
    for one in variants:
        edge, world = one.edge, one.world
        parts = [edge.models, edge.engine.model_dump_json(), edge.synchronizer.model_dump_json()]
        parts += [str(world.seed), world.model_dump_json(include={"sensors"})] if world.sensors else []
        parts += [world.power.model_dump_json(), edge.power.model_dump_json()] if world.draws else []
        key = "\n".join(parts)
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def _pass(
    plan: Plan, job: Job, variants: list[Prepared], out: Path, models: LoadedModels, watch: Watch, *, quiet: bool
) -> None:
    task, first = plan.task, variants[0]
    reader = open_job(job, task)
    source = RecordingSource(reader)
    check_usable(job.source, source, task, first.edge)
    shared = SharedModels(models.perception(task, first.edge), len(variants))
    watch.begin(reader.info())
    heard = Heard(source.content, source.continuous, altered_rig(source.rig, first.world))
    with ExitStack() as stack:
        lanes = []
        for one in variants:
            folder, around = RunFolder.of(out, one.variant), Surroundings(task, one)
            folder.job(job.name).mkdir(parents=True, exist_ok=True)

            def deliver(
                spool: Spool, one: Prepared = one, folder: RunFolder = folder, around: Surroundings = around
            ) -> Delivery:
                if plan.mode is Mode.EDGE_ONLY:
                    return ToEvidence(spool, reader, job, folder)
                reviewers, ledger = models.reviewers(one.cloud.reviewers), folder.ledger(job.name)
                timed = around.deliver(spool, shared.perception, reviewers, ledger)
                return timed or AtTheEnd(spool, reviewers, ledger, one.cloud, quiet=quiet)

            stack.callback(around.close)
            lane = Lane(task, job, one, heard, shared, folder.spool(job.name), deliver, around.time, around.power)
            stack.callback(lane.close)
            lanes.append((lane, folder, around))
        for cursor, reading, source_ns in _timed(source, first.world, watch):
            for lane, _, _ in lanes:
                lane.feed(cursor, reading, source_ns)
        watch.reviewing()
        for lane, folder, around in lanes:
            lane.finish()
            folder.write_facts(job.name, around.facts())
            around.close()


def _timed(source: RecordingSource, world: WorldSettings, watch: Watch) -> Iterator[tuple[int, Reading, int]]:
    """Readings with what reading and decoding each took, in nanoseconds."""
    clock = SystemClock()
    began = clock.monotonic_ns()
    for cursor, reading in altered(source.readings(0), world, source.content):
        now = clock.monotonic_ns()
        watch.at(reading.capture_time_ns, now)
        yield cursor, reading, now - began
        began = clock.monotonic_ns()
