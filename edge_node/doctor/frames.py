"""Samples to try engines on: of a recording, or a still whose statistics are natural."""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path

import numpy as np

from edge_node.config import EdgeSettings, SourceSettings
from edge_node.models import camera_of
from edge_node.sources import open_source
from fusion.errors import InputError, RecordingError
from fusion.synchronization import Aligned, Synchronizer
from fusion.task import Task
from fusion.types import Availability, Image, Modality, Reading, Sample, SampleId, SensorSlot

_EPOCH = "0" * 16


def recorded(settings: EdgeSettings, task: Task, path: Path, most: int) -> list[Sample]:
    """The first `most` samples of `path`, aligned as the daemon does. Raises `RecordingError` without any."""
    source = open_source(SourceSettings(path=path, split=settings.source.split), task)
    synchronizer = Synchronizer.of_task(task, settings.synchronizer)
    ready = (synchronizer.push(cursor, reading) for cursor, reading in source.readings(0))
    aligned = (one for each in chain(ready, iter(synchronizer.flush, [])) for one in each)
    kept = islice((one for one in aligned if isinstance(one, Aligned)), most)
    found = [
        Sample(SampleId(settings.device, _EPOCH, number), one.time_ns, one.slots, source.rig, one.cursor)
        for number, one in enumerate(kept, 1)
    ]
    if not found:
        raise RecordingError(f"{path}: no sample of task {task.name} in it; give another recording")
    return found


def still(task: Task, reference: str, *, fused: bool) -> list[Sample]:
    """One made sample for a task that only has a camera. Raises `InputError` for one that is `fused`."""
    if fused:
        raise InputError(f"task {task.name} has several sensors and no bundled recording; give --recording")
    name = camera_of(task, reference)
    sensor = task.sensors[name]
    picture = Image(natural_picture(sensor.height or 640, sensor.width or 640))
    slots = {each: SensorSlot.absent() for each in task.sensors}
    slots[name] = SensorSlot(Availability.PRESENT, 0, Reading(name, Modality.CAMERA, 0, picture))
    return [Sample(SampleId("doctor", _EPOCH, 1), 0, slots, None, 1)]


def natural_picture(height: int, width: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """(H, W, 3) uint8 noise whose amplitude falls with 1/frequency, as in pictures of the world."""
    draw = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    fall = 1 / np.maximum(frequency, 1 / max(height, width))
    phase = np.exp(2j * np.pi * draw.random((3, *fall.shape)))
    waves = np.fft.irfft2(fall * phase, (height, width))
    waves -= waves.mean((1, 2), keepdims=True)
    scaled = 128 + 50 * waves / waves.std((1, 2), keepdims=True)
    return np.ascontiguousarray(np.clip(scaled, 0, 255).astype(np.uint8).transpose(1, 2, 0))
