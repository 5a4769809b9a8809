"""What `--from`, `--to` and `--shard` make of recordings, and what the options must not be."""

import argparse
from datetime import UTC, datetime

import numpy as np
import pytest

from fusion.errors import ConfigError, InputError, RecordingError
from fusion.recording.native.synthetic import START_NS, STEP_NS
from fusion.recording.native.writer import RecordingWriter
from fusion.task import Task
from fusion.types import Image
from replay.running.folder import RunFolder
from replay.running.plan import Job, Plan, Variant
from replay.sources.jobs import jobs_of, open_job
from replay.sources.options import CACHE_BYTES, SourceOptions, add_source_options, read_bytes

YARD = Task.load("yard")
FIRST_NS = START_NS - STEP_NS
"""The first reading of `made`'s recordings is sound that ends with the first picture."""


def options(*words):
    parser = argparse.ArgumentParser()
    add_source_options(parser)
    return SourceOptions.of(parser.parse_args(words))


def iso(time_ns):
    return datetime.fromtimestamp(time_ns // 10**9, UTC).replace(microsecond=time_ns // 1000 % 10**6).isoformat()


def seen(job):
    """Capture times of a job's pictures, in tenths of a second after the first reading."""
    found = [r.capture_time_ns for _, r in open_job(job, YARD).readings() if r.sensor == "front"]
    return [(time_ns - FIRST_NS) // STEP_NS for time_ns in found]


@pytest.fixture(scope="module")
def path(made, tmp_path_factory):
    """Two seconds, from 0.1 s on a picture every tenth."""
    return made(tmp_path_factory.mktemp("long") / "long.mcap", frames=20)


def test_seconds_are_taken_as_they_are(path):
    (job,) = jobs_of([str(path)], options=options("--from", "0.5", "--to", "1"))
    assert (job.name, job.from_s, job.to_s) == ("long", 0.5, 1.0)
    assert seen(job) == [5, 6, 7, 8, 9]


def test_times_of_day_are_too(path):
    low, high = FIRST_NS + 5 * STEP_NS, FIRST_NS + 10 * STEP_NS
    (job,) = jobs_of([str(path)], options=options("--from", iso(low), "--to", iso(high)), task=YARD)
    assert seen(job) == [5, 6, 7, 8, 9]
    naive = datetime.fromtimestamp(low // 10**9, UTC).replace(tzinfo=None, microsecond=low // 1000 % 10**6)
    (job,) = jobs_of([str(path)], options=options("--from", naive.isoformat()), task=YARD)
    assert seen(job)[0] == 5
    (job,) = jobs_of([str(path)], options=options("--from", "1999-01-01"), task=YARD)
    assert len(seen(job)) == 20


def test_shards_have_names_in_order_and_share_out_everything(path):
    jobs = jobs_of([str(path)], options=options("--shard", "0.6"), task=YARD)
    assert [job.name for job in jobs] == ["long@0", "long@1", "long@2", "long@3"]
    assert [(job.from_s, job.to_s) for job in jobs] == [
        (0, 0.6),
        (0.6, 1.2),
        (1.2, pytest.approx(1.8)),
        (jobs[3].from_s, None),
    ]
    assert [tenth for job in jobs for tenth in seen(job)] == list(range(1, 21))
    assert [job.to_s for job in jobs[:-1]] == [job.from_s for job in jobs[1:]]
    within = jobs_of([str(path)], options=options("--shard", "0.6", "--from", "0.3", "--to", "1"), task=YARD)
    assert [tenth for job in within for tenth in seen(job)] == [3, 4, 5, 6, 7, 8, 9]
    (one,) = jobs_of([str(path)], options=options("--shard", "60"), task=YARD)
    assert one.name == "long"


def test_shards_in_which_nothing_was_captured_are_none(tmp_path):
    with RecordingWriter(tmp_path / "gap.mcap", None, "yard") as writer:
        for second in (0, 1, 10):
            writer.camera("front", second * 10**9, Image(np.zeros((4, 4, 3), np.uint8)))
    jobs = jobs_of([str(tmp_path / "gap.mcap")], options=options("--shard", "2"), task=YARD)
    assert [(job.name, job.from_s, job.to_s) for job in jobs] == [("gap@0", 0, 2), ("gap@4", 8, None)]


def test_a_recording_outside_is_passed_over_and_told(path, made, tmp_path, told):
    other = tmp_path / "other.mcap"
    with RecordingWriter(other, None, "yard") as writer:
        writer.camera("front", START_NS + 86_400 * 10**9, Image(np.zeros((4, 4, 3), np.uint8)))
    asked = options("--to", iso(START_NS + 10**9))
    (job,) = jobs_of([str(path), str(other)], options=asked, task=YARD, tell=told.append)
    assert job.source == str(path)
    assert told == [f"{other}: nothing of it is in the stretch that is asked for; passed over"]
    with pytest.raises(InputError, match="no recording has anything in the stretch"):
        jobs_of([str(other)], options=asked, task=YARD, tell=told.append)


def test_an_empty_stretch_is_one_line(path):
    (job,) = jobs_of([str(path)], options=options("--from", "50"))
    with pytest.raises(RecordingError, match=r"long.mcap: no readings from second 50 on; it lasts 2.000 s"):
        open_job(job, YARD)


def test_times_of_day_of_a_recording_without_any_are_one_line(tmp_path):
    with RecordingWriter(tmp_path / "nominal.mcap", None, "yard") as writer:
        writer.camera("front", 0, Image(np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(InputError, match="its times are no wall clock's; give --from and --to in seconds"):
        jobs_of([str(tmp_path / "nominal.mcap")], options=options("--from", "2026-01-01"), task=YARD)


def test_a_recording_that_cannot_be_read_is_left_for_the_run_to_tell(tmp_path, path):
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(path.read_bytes()[:-100])
    jobs = jobs_of([str(broken), str(path)], options=options("--shard", "1"), task=YARD)
    assert [job.name for job in jobs] == ["broken", "long@0", "long@1"]


def test_too_many_shards_are_one_line(path):
    with pytest.raises(InputError, match="give a longer --shard"):
        jobs_of([str(path)], options=options("--shard", "0.0001"), task=YARD)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--from", "soon"], "--from soon: neither seconds nor a time as 2026"),
        (["--from", "-1"], "--from -1: seconds after the first reading are 0 or more"),
        (["--to", "nan"], "--to nan: seconds"),
        (["--from", "2", "--to", "2"], "--to 2 is not after --from 2"),
        (["--shard", "0"], "--shard 0: a length in seconds is more than 0"),
        (["--cache-bytes", "much"], "--cache-bytes much: give a number of bytes"),
    ],
)
def test_wrong_options_are_one_line(words, match):
    with pytest.raises(ConfigError, match=match):
        options(*(f"{words[0]}={words[1]}", *words[2:]))


def test_bytes_have_units():
    assert [read_bytes(text) for text in ("10", "1k", "2 MB", "0.5GB", "3t")] == [
        10,
        1000,
        2_000_000,
        5 * 10**8,
        3 * 10**12,
    ]
    assert options().cache_bytes == CACHE_BYTES


def test_a_mapping_is_part_of_a_job_and_of_what_decides_its_outcome(path, tmp_path):
    asked = options("--map", "front=/camera/front", "--salvage")
    (job,) = jobs_of([str(path)], options=asked, task=YARD)
    (plain,) = jobs_of([str(path)])
    assert job.mapping == ("front=/camera/front",)
    assert job.salvage
    plan, variant = Plan("yard", (job,)), Variant()
    assert len({plan.key(one, variant) for one in (job, plain, Job("long", str(path), mapping=job.mapping))}) == 3
    folder = RunFolder(tmp_path)
    folder.write_manifest(plan, variant, "both")
    assert folder.manifest().jobs == (job,)
    with pytest.raises(ConfigError, match="task yard has no sensor 'left'"):
        jobs_of([str(path)], options=options("--map", "left=/camera/front"), task=YARD)


def test_a_recording_of_other_names_is_read_under_the_task_s(path):
    kitti = Task.load("kitti")
    (job,) = jobs_of([str(path)], options=options("--map", "left=front", "--map", "velodyne=/lidar/roof"), task=kitti)
    assert {r.sensor for _, r in open_job(job, kitti).readings()} == {"left", "velodyne", "mic"}
    (plain,) = jobs_of([str(path)])
    with pytest.raises(RecordingError, match="no sensor of task kitti"):
        open_job(plain, kitti)
