"""Runs of the bundled patrol that are made once: the whole of it, and a second and a half with a regression planted."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge_node import models as edge_models
from edge_node.models import model_folder
from fusion.geometry import Rig
from fusion.task import Task
from fusion.types import Image
from replay.compare.sides import Side
from replay.live.demo import bundled_recording
from replay.outputs import collect
from replay.results import file
from replay.running.folder import RunFolder
from replay.running.models import LoadedModels
from replay.running.plan import Job, Plan, Variant
from replay.running.player import play

PINNED = ("edge.engine.backend=onnxruntime", "edge.engine.precision=f32", "edge.engine.threads=1")
SECONDS = 1.5


class Lab:
    """Runs recordings under `folder`; models are loaded once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = LoadedModels()

    def run(self, name, recording, *variants, models=None):
        """Folders of the runs, one a variant of (name, settings); without any, of a run as the models are."""
        named = [Variant(name=v, sets=(*PINNED, *sets)) for v, sets in variants] or [Variant(sets=PINNED)]
        plan = Plan("yard", (Job("yard", str(recording)),), tuple(named))
        out = self.folder / name
        for variant in named:
            RunFolder.of(out, variant).write_manifest(plan, variant, "both")
        play(plan, plan.jobs[0], out, models or self.models, quiet=True)
        for variant in named:
            folder = RunFolder.of(out, variant)
            file.write_results(collect(plan.task, plan.jobs, variant, folder), folder.path / file.NAME)
        return [RunFolder.of(out, variant).path for variant in named]


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("compared"))


@pytest.fixture(scope="session")
def whole(lab):
    """The whole patrol, and the same with a threshold that is off by 0.05, in one pass."""
    plain, moved = ("plain", ()), ("moved", ("edge.screening.uncertain_below=0.55",))
    return lab.run("whole", bundled_recording("yard"), plain, moved)


@pytest.fixture(scope="session")
def base(lab, cut):
    """A second and a half as it is; its recording is `base.mcap`."""
    recording = cut(lab.folder / "base.mcap", 0, SECONDS)
    return lab.run("base", recording)[0]


@pytest.fixture(scope="session")
def rerun(lab, base):
    return lab.run("rerun", lab.folder / "base.mcap")[0]


def swapped(reading):
    """A picture with red and blue exchanged, stored without loss."""
    if not isinstance(reading.payload, Image):
        return reading
    pixels = np.ascontiguousarray(reading.payload.pixels[..., ::-1])
    _, encoded = cv2.imencode(".png", reading.payload.pixels)
    return replace(reading, payload=Image(pixels, bytes(encoded), "png"))


def mirrored(rig):
    """The LiDAR's mount with a wrong sign: left is right."""
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    return Rig(rig.cameras, {name: flip @ mount for name, mount in rig.ego_from_lidar.items()})


def late(sensor, ms):
    """Readings of one sensor that claim to be of a later moment."""

    def change(reading):
        step = round(ms * 1e6) if reading.sensor == sensor else 0
        return replace(reading, capture_time_ns=reading.capture_time_ns + step)

    return change


def in_few_bits(out: Path, bits: int) -> Path:
    """The bundled detector with every kernel rounded to `bits`, one step for all of its channels."""
    graph = onnx.load(model_folder(Task.load("yard"), "") / edge_models.DETECTOR)
    for tensor in graph.graph.initializer:
        kernel = numpy_helper.to_array(tensor)
        if kernel.ndim == 4 and kernel.dtype in (np.float16, np.float32):
            step = np.abs(kernel.astype(np.float32)).max() / (2 ** (bits - 1) - 1)
            rounded = np.round(kernel.astype(np.float32) / step) * step
            tensor.CopyFrom(numpy_helper.from_array(rounded.astype(kernel.dtype), tensor.name))
    onnx.save(graph, out)
    return out


@pytest.fixture(scope="session")
def planted(lab, cut, base):
    """A folder for each planted regression, by the name of the cause that should be told."""
    runs = {
        "channels": cut(lab.folder / "channels.mcap", 0, SECONDS, swapped),
        "calibration": cut(lab.folder / "calibration.mcap", 0, SECONDS, change_rig=mirrored),
        "sensor-time": cut(lab.folder / "sensor-time.mcap", 0, SECONDS, late("roof", 100)),
        "camera-late": cut(lab.folder / "camera-late.mcap", 0, SECONDS, late("front", 100)),
    }
    found = {name: lab.run(name, recording)[0] for name, recording in runs.items()}
    bad, load = in_few_bits(lab.folder / "bad.onnx", 6), edge_models.load_engine

    def load_bad(path, **how):
        return load(bad if path.name == edge_models.DETECTOR else path, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge_models, "load_engine", load_bad)
        found["engine"] = lab.run("engine", lab.folder / "base.mcap", models=LoadedModels())[0]
    return found


@pytest.fixture
def side(tmp_path):
    """Makes one of two runs out of results that are made up."""

    def make(results, name="made-up"):
        return Side(tmp_path / name, results)

    return make
