"""Failures cross processes as text and come out as the kind they were; a run tells all of them in one."""

import pickle

import pytest

from fusion.errors import ConfigError, ModelError, OverloadedError, RecordingError, UnavailableError
from fusion.review.base import RowsError
from replay.running.failure import Failure, JobsFailedError, WorkerDefect


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
    failures = {"a": RecordingError("cut off"), "b": RecordingError("cut off"), "c": RecordingError("no frames")}
    told = JobsFailedError(failures, 5)
    assert str(told) == "3 of 5 recordings failed: a, b: cut off; c: no frames"
    assert told.exit_code == RecordingError.exit_code
    assert JobsFailedError({**failures, "d": ModelError("no")}, 5).exit_code == 1
