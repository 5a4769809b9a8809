"""A cursor that was kept is where reading goes on, and passing over what came before is cheap."""

import pytest

from fusion.recording import open_recording
from fusion.recording.native import stream
from fusion.recording.native.reader import McapReader
from fusion.recording.native.stream import MessageScan


def marks(found):
    return [(cursor, reading.sensor, reading.capture_time_ns) for cursor, reading in found]


@pytest.fixture
def unpacked(monkeypatch):
    """How many chunks were unpacked."""
    count = []
    real = stream.unpack_chunk
    monkeypatch.setattr(stream, "unpack_chunk", lambda chunk: count.append(1) or real(chunk))
    return count


@pytest.mark.parametrize("salvage", [False, True])
def test_reading_goes_on_after_any_cursor(small, salvage):
    reader = open_recording(small, salvage=salvage)
    whole = marks(reader.readings())
    last = whole[-1][0]
    for start in (0, 1, 2, *range(3, last, 7), last - 1, last, last + 1):
        assert marks(reader.readings(start)) == [mark for mark in whole if mark[0] > start]


def test_cursors_count_every_message_of_the_file(small):
    scan = MessageScan(small)
    total = sum(1 for _ in scan.messages())
    assert scan.cursor == total
    assert max(cursor for cursor, _ in open_recording(small).readings()) <= total


def test_what_was_read_is_passed_over_unpacked(small, unpacked):
    reader = McapReader(small)
    chunks = len(reader.survey.channels) and sum(1 for _ in reader._index.chunks)
    assert chunks >= 3, "the recording is too small to show anything"
    unpacked.clear()
    last = [cursor for cursor, _ in reader.readings()][-2]
    assert len(unpacked) == chunks
    unpacked.clear()
    assert len(list(reader.readings(last))) == 1
    assert len(unpacked) == 1


def test_info_unpacks_only_where_topics_begin(small, unpacked):
    open_recording(small).info()
    assert len(unpacked) == 1


def test_iterators_are_independent(small):
    reader = open_recording(small)
    first, second = reader.readings(), reader.readings(10)
    interleaved = [next(first), next(second), next(first), next(second)]
    whole = list(reader.readings())
    after = [pair for pair in whole if pair[0] > 10]
    assert marks(interleaved) == marks([whole[0], after[0], whole[1], after[1]])


def test_truth_and_readings_agree_on_times(small):
    reader = open_recording(small)
    frames = [r.capture_time_ns for _, r in reader.readings() if r.sensor == "front"]
    assert [truth.time_ns for truth in reader.truth()] == frames
