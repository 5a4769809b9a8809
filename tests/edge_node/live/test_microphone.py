"""The microphone driver against a stand-in for the sound library: times that count samples, loss, and no device."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from edge_node.live import microphone
from edge_node.live.drivers import Mount
from edge_node.live.microphone import MicrophoneDriver
from fusion.clock import ManualClock
from fusion.errors import SensorError
from fusion.task import Task

MS = 1_000_000
MIC = Task.load("yard").sensors["mic"]


class PortAudioError(Exception):
    """As the library's."""


class Stream:
    """Delivers eight chunks when it is started, 100 ms apart and later by `late_ms` of their number, and is gone."""

    active = False

    def __init__(self, clock, late_ms, lost) -> None:
        self.clock, self.late_ms, self.lost, self.stopped, self.closed = clock, late_ms, lost, False, False
        self.callback = None
        self.chunks = 8

    def start(self) -> None:
        for number in range(1, self.chunks + 1):
            self.clock.now_ns = 10**18 + number * 100 * MS + self.late_ms.get(number, 0) * MS
            pcm = np.full((1600, 1), number, np.int16)
            self.callback(pcm, 1600, None, SimpleNamespace(input_overflow=number == self.lost))

    def stop(self):
        self.stopped = True

    def close(self):
        self.closed = True


@pytest.fixture
def heard(monkeypatch):
    """Open the microphone with a stream as told; what was asked of the library."""
    clock, asked, drops = ManualClock(), {}, Counter()
    monkeypatch.setattr(microphone, "_LIBRARY", microphone._Library())

    def make(late_ms=None, lost=0, chunks=8):
        stream = Stream(clock, late_ms or {}, lost)
        stream.chunks = chunks

        def opened(**options):
            stream.callback = options.pop("callback")
            asked.update(options)
            if options["device"] == "none":
                raise ValueError("No input device matching 'none'")
            return stream

        monkeypatch.setitem(
            sys.modules,
            "sounddevice",
            SimpleNamespace(InputStream=opened, PortAudioError=PortAudioError, _terminate=int, _initialize=int),
        )
        mount = Mount("mic", MIC, clock.wall_ns, lambda reason, count: drops.update({reason: count}))
        return MicrophoneDriver.open("mic://default", mount), mount, asked, stream, drops

    return make


def test_chunks_meet_though_they_arrive_unevenly(heard):
    driver, _, asked, stream, _ = heard({2: 20, 3: 7, 4: 31})
    readings = driver.readings()
    chunks = list(itertools.islice(readings, 5))
    assert asked == {"samplerate": 16_000, "channels": 1, "dtype": "int16", "blocksize": 1600, "device": None}
    assert {int(step) for step in np.diff([c.capture_time_ns for c in chunks])} == {100 * MS}
    assert chunks[0].capture_time_ns == 10**18
    assert chunks[0].payload.pcm.shape == (1600,)
    with pytest.raises(SensorError, match="mic://default: broke off"):
        list(readings)
    assert (stream.stopped, stream.closed) == (True, True)


def test_time_is_set_anew_after_a_loss(heard):
    driver, *_ = heard({3: 30}, lost=3)
    starts = [c.capture_time_ns for c in itertools.islice(driver.readings(), 4)]
    assert [int(step) // MS for step in np.diff(starts)] == [100, 130, 100]


def test_a_microphone_that_is_not_there_is_one_line(heard):
    _, mount, *_ = heard()
    with pytest.raises(SensorError, match=r"mic://none: cannot be opened \(No input device matching 'none'\)"):
        MicrophoneDriver.open("mic://none", mount)


class Sound:
    """A stand-in for the library with a list of devices that it makes when it begins; counts what is open."""

    PortAudioError = PortAudioError

    def __init__(self, plugged: set[str], *, faulty: bool = False) -> None:
        self.plugged, self.listed, self.faulty = plugged, set(plugged), faulty
        self.opened, self.begun = 0, 1

    def InputStream(self, *, device, **_):  # noqa: N802 as the library's
        if device not in self.listed:
            raise ValueError(f"No input device matching {device!r}")
        self.opened += 1
        return SimpleNamespace(start=self.start, stop=lambda: None, close=self.close, active=True)

    def start(self):
        if self.faulty:
            raise PortAudioError("Error starting stream: Unanticipated host error")

    def close(self):
        self.opened -= 1

    def _terminate(self):
        assert not self.opened
        self.begun -= 1

    def _initialize(self):
        self.listed, self.begun = set(self.plugged), self.begun + 1


@pytest.fixture
def opened(monkeypatch):
    """Open microphones of a stand-in for the library."""
    monkeypatch.setattr(microphone, "_LIBRARY", microphone._Library())

    def make(sound, name):
        monkeypatch.setitem(sys.modules, "sounddevice", sound)
        return MicrophoneDriver.open(f"mic://{name}", Mount("mic", MIC, lambda: 0))

    return make


def test_a_stream_that_does_not_start_is_closed(opened):
    sound = Sound({"usb"}, faulty=True)
    for _ in range(3):
        with pytest.raises(SensorError, match="Error starting stream: Unanticipated host error"):
            opened(sound, "usb")
    assert (sound.opened, sound.begun) == (0, 1)


def test_a_microphone_plugged_in_later_is_found_while_no_other_is_open(opened, monkeypatch):
    monkeypatch.setattr(microphone, "_LOOK_S", 0.0)
    sound = Sound({"built-in"})
    other = opened(sound, "built-in")
    readings = other.readings()
    sound.plugged.add("usb")
    for _ in range(2):
        with pytest.raises(SensorError):
            opened(sound, "usb")
    other.close()
    assert not list(readings)
    with pytest.raises(SensorError):
        opened(sound, "usb")
    assert opened(sound, "usb")
    assert (sound.opened, sound.begun) == (1, 1)


def test_devices_are_not_listed_anew_at_each_try(opened):
    sound = Sound(set())
    for plugged in (set(), {"usb"}, {"usb"}):
        sound.plugged = plugged
        with pytest.raises(SensorError):
            opened(sound, "usb")


def test_sound_that_is_lost_is_counted(heard):
    *_, drops = heard(lost=3, chunks=53)
    assert drops == {"sound lost": 4}  # one that the library tells of, three for which nobody made room
