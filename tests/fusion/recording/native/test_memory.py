"""What a reader holds grows with the index alone: 8 bytes a message, some hundreds a chunk, and reading by nothing."""

import tracemalloc

import numpy as np
import pytest

from fusion.recording import open_recording
from fusion.recording.native import writer
from fusion.recording.stretch import Stretch
from fusion.types import AudioChunk

STEP_NS = 10**6


def recorded(path, count, chunk_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "CHUNK_BYTES", chunk_bytes)
        with writer.RecordingWriter(path, None, "yard") as recording:
            for number in range(count):
                recording.audio("mic", number * STEP_NS, AudioChunk(np.zeros(4, np.int16), 16_000))
    return path


def measured(path, count):
    """Bytes held after `info()`, and at most beside them while reading all of it, and a tenth."""
    open_recording(path).info()
    tracemalloc.start()
    try:
        reader = open_recording(path)
        reader.info()
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        assert sum(1 for _ in reader.readings()) == count
        reading = tracemalloc.get_traced_memory()[1] - held
        tracemalloc.reset_peak()
        part = Stretch.of_seconds(reader, count * 0.5 * STEP_NS / 1e9, count * 0.6 * STEP_NS / 1e9)
        assert part.info().sensors["mic"].count == count // 10
        stretch = tracemalloc.get_traced_memory()[1] - held
    finally:
        tracemalloc.stop()
    return held, reading, stretch


def test_eight_bytes_a_message_and_one_chunk_while_reading(tmp_path):
    few, many = 2_000, 8_000
    small = measured(recorded(tmp_path / "few.mcap", few, 50_000), few)
    large = measured(recorded(tmp_path / "many.mcap", many, 50_000), many)
    assert large[0] - small[0] < 20 * (many - few)
    assert large[1] < small[1] + 100_000
    assert large[2] < small[2] + 40 * (many - few), "times are sorted in copies when they are summed up"


def test_hundreds_of_bytes_a_chunk(tmp_path):
    few, many = 300, 1_500
    small = measured(recorded(tmp_path / "few.mcap", few, 1), few)
    large = measured(recorded(tmp_path / "many.mcap", many, 1), many)
    assert large[0] - small[0] < 500 * (many - few)
    assert large[1] < small[1] + 100_000
