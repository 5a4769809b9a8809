"""A recording through a model over the ground: any number of cameras, LiDAR sweeps, objects as peaks."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from fusion.errors import ModelError
from fusion.evaluation.scene_picture import frame_shots
from fusion.geometry import Rig
from fusion.model.build import peak_reader
from fusion.model.centres import Centres
from fusion.model.checkpoint import load_fusion
from fusion.preparation.boxes import box3d_of
from fusion.preparation.fusion_spec import SPEC_NAME
from fusion.preparation.surround import camera_view
from fusion.training.driving.frames import DrivingFrames, Frame
from fusion.training.driving.ground import collate_frames
from fusion.training.driving.plan import PlannedFrame, task_name
from fusion.training.driving.spec import frame_spec
from fusion.types import Float32Array, Modality
from fusion.viewing.calibration import check_calibration
from fusion.viewing.models import ChosenModel
from fusion.viewing.moments import Choice
from fusion.viewing.seen import Part, SeenFrame, SeenObject, SeenSensor


class GroundViewer:
    """Shows `recording` to a model of layout `bev`, without the sensors `withheld`; objects score at least `floor`.

    Raises `RecordingError` for a recording that cannot be read or has no calibration, `InputError` for one without the
    task's sensors, `ModelError` for a model that does not fit the task's sensors.
    """

    def __init__(
        self,
        recording: Path,
        chosen: ChosenModel,
        withheld: Collection[str] = (),
        *,
        floor: float = 0.3,
        split: str | None = None,
    ) -> None:
        task, spec = chosen.task, chosen.spec
        shapes = replace(frame_spec(task), width=spec.image_width, height=spec.image_height, points=spec.points)
        self._names = [name for modality in spec.sensors for name in task.of_modality(Modality(modality))]
        counts = {modality: len(task.of_modality(Modality(modality))) for modality in spec.sensors}
        if counts != dict(spec.sensors):
            raise ModelError(f"{chosen.folder / SPEC_NAME}: a model of {spec.sensors}; task {task.name} has {counts}")
        self._frames = DrivingFrames(recording, task, shapes, split, every=True)
        self._rig = check_calibration(self._frames.info, task, withheld, lambda name: task_name(name, task))
        self._whole = self._frames.plan
        self._frames.plan = self._whole.without(withheld)
        self._task, self._withheld, self._floor = task, frozenset(withheld), floor
        self._model, self._peaks = load_fusion(chosen.folder), peak_reader(spec)
        self._tells_velocity = shapes.sweeps > 1
        """One sweep and one picture a camera do not show motion."""

    def frames(self, choice: Choice) -> Iterator[SeenFrame]:
        """The moments that `choice` picks."""
        start_ns = min(sensor.first_ns for sensor in self._frames.info.sensors.values() if sensor.count)
        seconds = [(planned.time_ns - start_ns) / 1e9 for planned in self._whole.frames]
        picked = [index for index, at_s in enumerate(seconds) if choice.picks(at_s)]
        for index in tqdm(picked, desc="perceive", unit="moment"):
            yield self._seen(index, seconds[index])

    def _seen(self, index: int, at_s: float) -> SeenFrame:
        frame, planned = self._frames.frame(index), self._whole.frames[index]
        answer = self._answer(frame)
        points = frame["points"][frame["points_valid"]]
        truth = planned.truth
        return SeenFrame(
            time_ns=planned.time_ns,
            at_s=at_s,
            shots=frame_shots(frame, self._frames.cameras, self._looks(planned)),
            points=points,
            objects=self._objects(answer),
            sensors=self._sensors(answer, planned, len(points)),
            truth=None if truth is None else [o for o in truth.objects if o.label in self._task.classes],
            notes=self._notes(),
        )

    @torch.inference_mode()
    def _answer(self, frame: Frame) -> Centres:
        answer: Centres = self._peaks(self._model(collate_frames([frame]))[0])
        return answer

    def _objects(self, answer: Centres) -> list[SeenObject]:
        found = []
        for row in np.flatnonzero(answer.scores[0].numpy() >= self._floor):
            velocity = answer.velocity[0, row].tolist()
            found.append(
                SeenObject(
                    self._task.classes[int(answer.labels[0, row])],
                    float(answer.scores[0, row]),
                    box3d_of(answer.box3d[0, row].numpy()),
                    velocity=(velocity[0], velocity[1]) if self._tells_velocity else None,
                )
            )
        return found

    def _sensors(self, answer: Centres, planned: PlannedFrame, points: int) -> list[SeenSensor]:
        """What the model itself says it was made from."""
        seen = []
        for row, name in enumerate(self._names):
            modality = self._task.sensors[name].modality
            if bool(answer.sensor_present[0, row]):
                count = points if modality is Modality.LIDAR else None
                seen.append(SeenSensor(name, modality, Part.READ, float(answer.sensor_age[0, row]), count))
            else:
                held = name in self._withheld and name in planned.entries
                seen.append(SeenSensor(name, modality, Part.WITHHELD if held else Part.ABSENT))
        return seen

    def _looks(self, planned: PlannedFrame) -> dict[str, Float32Array]:
        """Where the cameras would look, (3, 4) each, as in `Surround`: also those that are not there."""
        rig: Rig = self._rig
        looks = {}
        for name in self._frames.cameras:
            sensor = planned.entries[name].sensor if name in planned.entries else name
            if sensor in rig.cameras:
                view = camera_view(rig.cameras[sensor], self._frames.spec.image_size)
                looks[name] = view.image_from_ego.astype(np.float32)
        return looks

    def _notes(self) -> list[str]:
        times = self._frames.info.notes.get("times")
        return [f"times: {times}"] if times else []
