"""Sound is read when it is raw 16-bit mono at 16 kHz: told by AudioInfo, else by how many bytes come a second."""

import numpy as np
import pytest

from fusion.errors import RecordingError
from fusion.recording import open_recording

CHUNK = np.arange(1600, dtype="<i2").tobytes()


def chunks(m, start, data=CHUNK, count=10, stamped=False):
    for i in range(count):
        time = start + i * 100_000_000
        yield "/mic/audio", m.audio(data, time - 3 if stamped else None), time


def opened(bags, ros, stored):
    return open_recording(bags.write(ros, stored))


@pytest.mark.parametrize("stamped", [False, True])
@pytest.mark.parametrize("described", [False, True])
def test_raw_sound_is_read(bags, ros, stamped, described):
    m = bags.messages(ros)
    about = [("/mic/audio_info", m.audio_info(), bags.start)] if described else []
    reader = opened(bags, ros, [*about, *chunks(m, bags.start, stamped=stamped)])
    info = reader.info()
    assert info.sensors["mic-audio"].count == 10
    assert info.unread == ()
    assert ("times of mic-audio" in info.notes) is not stamped
    first = next(reader.readings())[1]
    assert first.capture_time_ns == bags.start - 3 * stamped
    assert first.payload.pcm.tolist() == list(range(1600))
    assert first.payload.sample_rate_hz == 16000


@pytest.mark.parametrize(
    ("about", "text"),
    [
        ({"coding": "mp3"}, "mp3, S16LE, 16000 Hz, 1 channels; raw S16LE at 16000 Hz"),
        ({"rate": 44100}, "44100 Hz"),
        ({"channels": 2}, "2 channels"),
        ({"form": "F32LE"}, "F32LE"),
    ],
)
def test_other_sound_is_listed(bags, ros, about, text):
    m = bags.messages(ros)
    stored = [("/mic/audio_info", m.audio_info(**about), bags.start), *chunks(m, bags.start)]
    reader = opened(bags, ros, stored)
    assert not reader.info().sensors
    assert text in reader.info().unread[0]
    with pytest.raises(RecordingError, match="no camera, LiDAR or sound that is read; topics: /mic/audio "):
        next(reader.readings())


@pytest.mark.parametrize(
    ("data", "count", "text"),
    [
        (CHUNK[:800], 10, "8000 bytes a second where raw 16-bit sound at 16000 Hz has 32000"),
        (CHUNK * 2, 10, "64000 bytes a second"),
        (CHUNK[:-1], 10, "31990 bytes"),
        (CHUNK, 2, "too short to tell"),
    ],
)
def test_undescribed_sound_that_is_not_raw_is_listed(bags, ros, data, count, text):
    m = bags.messages(ros)
    (unread,) = opened(bags, ros, list(chunks(m, bags.start, data, count))).info().unread
    assert "no AudioInfo beside it" in unread
    assert text in unread


def test_half_a_sample_is_named(bags, ros):
    m = bags.messages(ros)
    stored = [("/mic/audio_info", m.audio_info(), bags.start), *chunks(m, bags.start, CHUNK[:-1], 1)]
    with pytest.raises(RecordingError, match=r"message 2 .*, /mic/audio: sound of 3199 bytes"):
        list(opened(bags, ros, stored).readings())
