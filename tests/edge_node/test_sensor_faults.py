"""`edge-node run` as a process on recordings with faults: told within two seconds, and nothing is lost of the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fusion.recording import open_recording
from fusion.recording.native.writer import RecordingWriter
from fusion.types import Image, Modality, Reading

from .edge_process import YARD

TOLD_S = 2.0
LATE_NS = 500_000_000
"""`synchronizer.late_ms`, beyond which nothing is paired."""
FRAMES, WRONG = 35, range(15, 25)
S = 10**9


def changed(path: Path, change: Callable[[int, Reading], Reading]) -> Path:
    """The first 3.5 s of the bundled recording, each of a sensor's readings, by its number, as `change` makes it."""
    reader = open_recording(YARD)
    number = dict.fromkeys(("front", "roof", "mic"), -1)
    with RecordingWriter(path, reader.info().rig, "yard") as writer:
        write = {Modality.CAMERA: writer.camera, Modality.LIDAR: writer.lidar, Modality.SPEECH: writer.audio}
        for _, reading in reader.readings():
            number[reading.sensor] += 1
            if number[reading.sensor] == FRAMES:
                break
            given = change(number[reading.sensor], reading)
            write[given.modality](given.sensor, given.capture_time_ns, given.payload)
    return path


def skewed(path: Path, stamp: Callable[[int], int]) -> Path:
    """Such a recording with the stamps of ten sweeps in its middle as `stamp` makes them."""

    def change(number: int, reading: Reading) -> Reading:
        wrong = reading.sensor == "roof" and number in WRONG
        return replace(reading, capture_time_ns=stamp(reading.capture_time_ns)) if wrong else reading

    return changed(path, change)


def late(time_ns: int) -> int:
    return time_ns - LATE_NS - S // 4


def repeated(time_ns: int) -> int:
    return time_ns - time_ns % (S // 2)


def backwards(time_ns: int) -> int:
    return 2 * (time_ns - time_ns % S) - time_ns + S * 95 // 100


def an_hour_back(time_ns: int) -> int:
    return time_ns - 3600 * S


@pytest.mark.parametrize(
    ("stamp", "fault"),
    [(late, "out_of_window"), (repeated, "duplicate"), (backwards, "out_of_order"), (an_hour_back, "clock_set")],
)
def test_wrong_stamps_in_a_recording_are_told_in_time_and_never_paired(start, tmp_path, stamp, fault):
    path = skewed(tmp_path / "skewed.mcap", stamp)
    process = start(f'[source]\npath = "{path}"\npace = "realtime"\ndrop_late_s = 0.2\n')
    process.until(lambda: process.told().get("source_ended"))
    assert process.told()["stamps"]["roof"][fault] > 0
    assert process.metrics()[f'fusion_edge_stamp_faults_total{{fault="{fault}",sensor="roof"}}'] > 0
    summary = process.end()
    (began, _), ((told, _),) = process.lines("the recording begins")[0], process.lines(f"sensor roof: {fault}: ")
    assert told - began < WRONG[0] / 10 + TOLD_S
    assert set(summary["synchronizer"]["by_sensor"]) == {"roof"}
    assert summary["samples"] + summary["gaps"] == FRAMES
    samples = process.samples()
    assert len(samples) == summary["samples"] > 0
    assert all(0 <= slots["roof"][1] <= LATE_NS for _, slots in samples)
    assert samples[-1][1]["roof"] == ["present", 0]
    after = [time_ns for time_ns, _ in samples if time_ns > samples[0][0] + WRONG[0] * S // 10]
    assert after, "samples go on"


def test_half_a_jpeg_in_a_recording_is_told_with_its_place_and_what_came_before_it_is_kept(start, tmp_path):
    def change(number: int, reading: Reading) -> Reading:
        if reading.sensor != "front" or number != WRONG[0]:
            return reading
        whole = reading.payload
        return replace(reading, payload=Image(whole.pixels, whole.encoded[: len(whole.encoded) // 2], whole.encoding))

    path = changed(tmp_path / "half.mcap", change)
    process = start(f'[source]\npath = "{path}"\npace = "realtime"\n')
    summary = process.ended(3)
    (line,) = [message for message in process.log().splitlines() if "half.mcap" in message]
    assert re.search(r"half.mcap: message \d+ \(/camera/front\) at byte \d+: .*cut short", line)
    assert summary["samples"] + summary["gaps"] == WRONG[0]
