"""A task's model folder, loaded: detector, profile, and the fusion model where the task has one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import cv2
import numpy as np

from edge_node.config import EngineSettings
from edge_node.perception import ModelPerception
from edge_node.settings.evidence import EvidenceSettings
from fusion.clock import Clock, SystemClock
from fusion.codec import Profile
from fusion.engines import Array, Engine, load_engine
from fusion.errors import ConfigError, ModelError
from fusion.geometry import Rig
from fusion.perception.detector import DetectorResult, DetectorStage
from fusion.perception.detector_variant import detector_precision
from fusion.perception.fused import FusionStage
from fusion.perception.novelty import ReferenceTokens
from fusion.preparation.fusion_spec import FusionSpec
from fusion.task import Task
from fusion.types import FusedScene, Image, Modality, SensorSlot

DETECTOR = "detector.onnx"
FUSER = "fuser.onnx"


def model_folder(task: Task, models: str) -> Path:
    """The configured folder, or the bundled one. Raises `ModelError` when it is not there."""
    folder = Path(models) if models else Path(str(resources.files("fusion").joinpath("weights", task.name)))
    if not folder.is_dir():
        wanted = "set 'models' to a folder of models" if not models else "set 'models' to a folder that exists"
        raise ModelError(f"{folder}: no models of task {task.name} there; {wanted}")
    return folder


def load_perception(
    task: Task, camera: str, folder: Path, settings: EngineSettings, evidence: EvidenceSettings | None = None
) -> ModelPerception:
    """Load and warm up everything in `folder`.

    Raises `ModelError` naming the file that is missing or wrong, `ConfigError` for settings that the models cannot
    keep to.
    """
    detector = load_detector(task, folder, settings)
    models = {"detector": detector.profile.trunk_sha256[:16]}
    fuser = load_fuser(task, folder, detector.profile, settings)
    if fuser:
        _check_fits(folder, settings, fuser.spec.queries)
        models["fusion"] = hashlib.sha256((folder / FUSER).read_bytes()).hexdigest()[:16]
    references = ReferenceTokens.find(folder, folder / FUSER) if fuser else None
    return ModelPerception(task, camera, detector, fuser, models, references, evidence)


def load_detector(task: Task, folder: Path, settings: EngineSettings) -> DetectorStage:
    """The trunk of `folder`, warmed up. Raises `ModelError` naming the file that is missing or wrong."""
    cv2.setNumThreads(1)  # the engine has the cores; a second pool of threads only gets in its way
    profile = Profile.load(folder)
    if profile.task != task.name:
        raise ModelError(f"{folder}: models of task {profile.task!r}, not {task.name!r}; set 'models' or 'task'")
    graph = folder / DETECTOR
    precision = detector_precision(folder, settings.precision)
    engine = load_engine(
        graph, backend=settings.backend, threads=settings.threads, precision=precision, cache=settings.folder
    )
    profile.check_trunk(graph)
    detector = DetectorStage(
        engine, task, profile,
        score_floor=settings.score_floor, iou=settings.max_iou, across=settings.max_iou_across,
        max_detections=settings.max_detections,
    )  # fmt: skip
    detector.run(Image(np.zeros((profile.image_height, profile.image_width, 3), np.uint8)))
    return detector


def load_fuser(task: Task, folder: Path, profile: Profile, settings: EngineSettings) -> TimedFusion | None:
    """The fusion model of `folder`, None where the task has none. Raises `ModelError`."""
    if not (folder / FUSER).is_file():
        return None
    return TimedFusion.load(
        folder, task, profile, backend=settings.backend, threads=settings.threads, cache=settings.folder
    )


def _check_fits(folder: Path, settings: EngineSettings, most: int) -> None:
    """Raise `ConfigError` where the detector may tell more than the fusion model can take."""
    if settings.max_detections > most:
        raise ConfigError(
            f"engine.max_detections = {settings.max_detections}: the fusion model in {folder} takes {most} at most; "
            "give that or less"
        )


def camera_of(task: Task, reference: str) -> str:
    """The camera the detector reads: the reference sensor, or the task's first camera."""
    cameras = task.of_modality(Modality.CAMERA)
    if not cameras:
        raise ModelError(f"task {task.name} has no camera, and the detector reads pictures")
    return reference if reference in cameras else cameras[0]


class TimedEngine:
    """An engine that adds up the time spent in it."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.name = engine.name
        self.inputs = engine.inputs
        self.spent_ns = 0
        self._engine = engine
        self._clock = clock

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `fusion.engines.Engine`."""
        began = self._clock.monotonic_ns()
        outputs = self._engine.run(inputs)
        self.spent_ns += self._clock.monotonic_ns() - began
        return outputs


class TimedFusion(FusionStage):
    """The fusion model, with `engine_ns`: what the last `run` spent inside its engines."""

    def __init__(self, engines: Mapping[str, Engine], spec: FusionSpec, task: Task) -> None:
        self._timed = {name: TimedEngine(engine, SystemClock()) for name, engine in engines.items()}
        super().__init__(self._timed, spec, task)
        self.engine_ns = 0

    def run(
        self, time_ns: int, slots: Mapping[str, SensorSlot], rig: Rig | None, detector: DetectorResult | None
    ) -> FusedScene:
        """See `FusionStage.run`."""
        before = sum(engine.spent_ns for engine in self._timed.values())
        scene = super().run(time_ns, slots, rig, detector)
        self.engine_ns = sum(engine.spent_ns for engine in self._timed.values()) - before
        return scene
