"""`fusion perceive` shows what a device would have made of the same moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_node.config import EngineSettings
from edge_node.models import load_perception, model_folder
from edge_node.perception import Look
from fusion.recording.base import open_recording
from fusion.synchronization import Aligned, Synchronizer, SynchronizerSettings
from fusion.task import Task
from fusion.types import Sample, SampleId
from fusion.viewing.items import ItemViewer
from fusion.viewing.models import choose_model
from fusion.viewing.moments import Choice

YARD = Path(__file__).parents[2] / "fusion/recordings/yard.mcap"
AT_S = 4.0


def device_looks() -> tuple[int, Look]:
    """The look at the first sample from `AT_S` on, of a device that saw everything before."""
    task = Task.load("yard")
    reader = open_recording(YARD, task)
    info = reader.info()
    start_ns = min(sensor.first_ns for sensor in info.sensors.values())
    perception = load_perception(task, "front", model_folder(task, ""), EngineSettings())
    synchronizer = Synchronizer.of_task(task, SynchronizerSettings())
    for cursor, reading in reader.readings():
        for one in synchronizer.push(cursor, reading):
            assert isinstance(one, Aligned)
            sample = Sample(SampleId("d", "0" * 16, 1), one.time_ns, one.slots, info.rig, one.cursor)
            look = perception.fuse(sample, perception.detect(sample))
            if one.time_ns >= start_ns + round(AT_S * 1e9):
                return one.time_ns, look
    raise AssertionError("the recording is too short")


def test_a_moment_is_what_the_device_makes_of_it() -> None:
    time_ns, look = device_looks()
    viewer = ItemViewer(YARD, choose_model(YARD, None, None), floor=0.0)
    (frame,) = viewer.frames(Choice(AT_S, left=1))
    assert frame.time_ns == time_ns
    assert look.scene is not None
    assert len(look.novelty) == len(look.detections) > 3
    assert all(distance is not None and 0 < distance < 3 for distance in look.novelty)
    assert {s.name: round((s.age_s or 0.0) * 1e9) for s in frame.sensors} == dict(look.scene.ages_ns)
    things = [o for o in look.scene.objects if max(o.label_scores, key=lambda name: o.label_scores[name]) != "nothing"]
    assert len(things) == len(frame.objects) > 3
    for device, shown in zip(things, frame.objects, strict=True):
        assert device.box3d is not None
        np.testing.assert_allclose(shown.score, device.label_scores[shown.label], atol=1e-5)
        np.testing.assert_allclose(shown.asked_score, device.asked_score, atol=1e-4)
        np.testing.assert_allclose((shown.box.x, shown.box.y), (device.box3d.x, device.box3d.y), atol=1e-3)
