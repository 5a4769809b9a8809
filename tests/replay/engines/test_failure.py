"""Failures cross processes as text and come out as the kind they were; a run tells all of them in one."""

import pickle

import pytest

from fusion.errors import (
    ConfigError,
    FusionError,
    ModelError,
    OverloadedError,
    PartialError,
    RecordingError,
    UnavailableError,
)
from fusion.review.base import RowsError
from replay.running.failures import Failures
from replay.running.plan import Job
from replay.running.workers.failure import Failure, WorkerDefect


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RecordingError("a.mcap: cut off at 17"), RecordingError),
        (ConfigError("no"), ConfigError),
        (OverloadedError("later", retry_after_s=1.0), UnavailableError),
        (RowsError([ModelError("row")]), ModelError),
    ],
)
def test_the_kind_and_the_words_stay(error: Exception, kind: type[Exception]) -> None:
    found = pickle.loads(pickle.dumps(Failure.of(error))).error
    assert type(found) is kind
    assert str(found) == str(error)


def test_a_defect_brings_its_traceback() -> None:
    try:
        {}["nothing"]
    except KeyError as error:
        found = Failure.of(error).error
    assert isinstance(found, WorkerDefect)
    assert "Traceback" in str(found)
    assert "\n" not in str(found).splitlines()[0]


def test_each_is_named_and_equal_words_are_said_once() -> None:
    jobs = [Job(name, f"{name}.mcap") for name in "abcde"]
    errors = {"a": RecordingError("cut off"), "c": RecordingError("no frames"), "b": RecordingError("cut off")}
    failures = Failures.of(jobs, errors)
    assert [job.name for job in failures.ran(jobs)] == ["d", "e"]
    with pytest.raises(PartialError, match=r"a, b: cut off; c: no frames") as told:
        failures.check([])
    assert told.value.exit_code == 9


def test_where_all_failed_the_run_did() -> None:
    jobs = [Job(name, f"{name}.mcap") for name in "ab"]
    with pytest.raises(RecordingError, match="cut off"):
        Failures.of(jobs[:1], {"a": RecordingError("cut off")}).ran(jobs[:1])
    with pytest.raises(FusionError, match="none of 2") as told:
        Failures.of(jobs, {"a": RecordingError("cut off"), "b": RecordingError("empty")}).ran(jobs)
    assert told.value.exit_code == RecordingError.exit_code
