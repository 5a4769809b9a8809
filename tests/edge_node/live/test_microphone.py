"""The microphone driver against a stand-in for the sound library: times that count samples, loss, and no device."""

from __future__ import annotations

import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from edge_node.live.drivers import Mount
from edge_node.live.microphone import MicrophoneDriver
from fusion.clock import ManualClock
from fusion.errors import SensorError
from fusion.task import Task

MS = 1_000_000


class PortAudioError(Exception):
    """As the library's."""


class Stream:
    """Delivers eight chunks when it is started, 100 ms apart and later by `late_ms` of their number, and is gone."""

    active = False

    def __init__(self, clock, late_ms, lost) -> None:
        self.clock, self.late_ms, self.lost, self.stopped = clock, late_ms, lost, False
        self.callback = None

    def start(self) -> None:
        for number in range(1, 9):
            self.clock.now_ns = 10**18 + number * 100 * MS + self.late_ms.get(number, 0) * MS
            pcm = np.full((1600, 1), number, np.int16)
            self.callback(pcm, 1600, None, SimpleNamespace(input_overflow=number == self.lost))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopped = True


@pytest.fixture
def heard(monkeypatch):
    """Open the microphone with a stream as told; what was asked of the library."""
    clock, asked = ManualClock(), {}

    def make(late_ms=None, lost=0):
        stream = Stream(clock, late_ms or {}, lost)

        def opened(**options):
            stream.callback = options.pop("callback")
            asked.update(options)
            if options["device"] == "none":
                raise ValueError("No input device matching 'none'")
            return stream

        monkeypatch.setitem(
            sys.modules, "sounddevice", SimpleNamespace(InputStream=opened, PortAudioError=PortAudioError)
        )
        mount = Mount("mic", Task.load("yard").sensors["mic"], clock.wall_ns)
        return MicrophoneDriver.open("mic://default", mount), mount, asked, stream

    return make


def test_chunks_meet_though_they_arrive_unevenly(heard):
    driver, _, asked, stream = heard({2: 20, 3: 7, 4: 31})
    readings = driver.readings()
    chunks = list(itertools.islice(readings, 5))
    assert asked == {"samplerate": 16_000, "channels": 1, "dtype": "int16", "blocksize": 1600, "device": None}
    assert {int(step) for step in np.diff([c.capture_time_ns for c in chunks])} == {100 * MS}
    assert chunks[0].capture_time_ns == 10**18
    assert chunks[0].payload.pcm.shape == (1600,)
    with pytest.raises(SensorError, match="mic://default: broke off"):
        list(readings)
    assert stream.stopped


def test_time_is_set_anew_after_a_loss(heard):
    driver, *_ = heard({3: 30}, lost=3)
    starts = [c.capture_time_ns for c in itertools.islice(driver.readings(), 4)]
    assert [int(step) // MS for step in np.diff(starts)] == [100, 130, 100]


def test_a_microphone_that_is_not_there_is_one_line(heard):
    _, mount, *_ = heard()
    with pytest.raises(SensorError, match=r"mic://none: cannot be opened \(No input device matching 'none'\)"):
        MicrophoneDriver.open("mic://none", mount)
