"""The submission, read back by the evaluator, holds the run's boxes where they are on the globe."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from fusion.evaluation.nuscenes import evaluate_nuscenes
from fusion.evaluation.nuscenes_boxes import CLASSES
from fusion.evaluation.nuscenes_files import read_nuscenes_boxes
from fusion.geometry import rigid, rotation_z
from fusion.recording import open_recording
from fusion.recording.base import EMPTY, EgoPose, RecordingInfo, SensorInfo
from fusion.task import Task
from fusion.types import Box2D, Box3D, ItemState, Modality, Reading
from replay.export.base import UnsuitedError
from replay.export.boxes import nuscenes
from replay.results.records import ItemResult, SampleResult
from replay.running.plan import Job
from replay.sources import jobs

ROOT = Path(__file__).parents[3]
KEYFRAME = ROOT / "../shared/data/nuscenes_keyframe"
ORACLE = ROOT / "../shared/data/oracles/nuscenes_eval"
EARLY_NS = 35_000_000
CAR = Box3D(10, 2, 1, 4, 2, 1.5, 0.3)
POSE = rigid(rotation_z(0.7), np.array([400.0, 1200.0, 3.0]))


@dataclass
class Posed:
    """A recording of nuScenes that knows its tokens and poses alone."""

    tokens: dict[int, str]
    format: str = "nuscenes"
    path: Path = Path("scene")

    def info(self):
        return RecordingInfo(self.path, self.format, "0" * 64, 0, "driving", {}, None, 0, {})

    def names(self):
        return self.tokens

    def poses(self):
        for time_ns in sorted(self.tokens):
            yield EgoPose(time_ns - 50_000_000, np.eye(4))
            yield EgoPose(time_ns, POSE)


def item(number, sequence, time_ns, label, score, box):
    found = ItemResult(f"d/{sequence}#{number}", sequence, time_ns, 0, Box2D(0, 0, 1, 1), label, score,
                       ItemState.PASSED, ())  # fmt: skip
    return replace(found, box3d=box)


def sample(number, time_ns):
    """The sample of a sweep, told by a camera that fired before it."""
    return SampleResult(number, number, time_ns - EARLY_NS, 1, 1, 1, 1, {"lidar-top": -EARLY_NS / 1e6})


def test_the_oracles_predictions_give_the_oracles_figures(draw, tmp_path):
    """Boxes that went from the globe to the ego frame by hand come back by the exporter."""
    if not ORACLE.is_dir():
        pytest.skip("the oracles are not in ../shared/data")
    told = json.loads((ORACLE / "pred.json").read_text())
    reader = Posed({number * 500_000_000: token for number, token in enumerate(told, 1)})
    samples, items = [], []
    for number, boxes in enumerate(told.values(), 1):
        time_ns = number * 500_000_000
        samples.append(sample(number, time_ns))
        for n, box in enumerate(boxes):
            x, y, z = POSE[:3, :3].T @ (np.array(box["translation"]) - POSE[:3, 3])
            w, _, _, qz = box["rotation"]
            width, length, height = box["size"]
            solid = Box3D(x, y, z, length, width, height, 2 * np.arctan2(qz, w) - 0.7)
            items.append(
                item(n, number, time_ns, box["detection_name"].replace("_", "-"), box["detection_score"], solid)
            )
    run = draw.of(Task.load("nuscenes"), samples, items)
    done = nuscenes.export(run, {"drawn": lambda: reader}, tmp_path)
    assert done.notes == ()
    truth, given, written = map(read_nuscenes_boxes, (ORACLE / "gt.json", ORACLE / "pred.json", *done.files))
    ours = evaluate_nuscenes(truth, written, filtered=False)
    expected = evaluate_nuscenes(truth, given, filtered=False)
    assert ours.mean_ap == pytest.approx(expected.mean_ap, abs=1e-9)
    for name in ("trans_err", "scale_err", "orient_err"):
        assert ours.tp_errors[name] == pytest.approx(expected.tp_errors[name], abs=1e-6)


def test_a_real_keyframes_truth_lies_where_its_file_says(draw, tmp_path):
    if not KEYFRAME.is_dir():
        pytest.skip("the nuScenes keyframe is not in ../shared/data")
    reader, task = open_recording(KEYFRAME), Task.load("nuscenes")
    (truth,) = reader.truth()
    things = [thing for thing in truth.objects if thing.label in task.classes]
    items = [item(n, 1, truth.time_ns, t.label, 0.5, t.box3d) for n, t in enumerate(things)]
    run = draw.of(task, [sample(1, truth.time_ns)], items)
    (path,) = nuscenes.export(run, {"drawn": lambda: reader}, tmp_path).files
    metrics = evaluate_nuscenes(read_nuscenes_boxes(global_truth(tmp_path)), read_nuscenes_boxes(path), filtered=False)
    told = [one for one in metrics.classes if one.truths]
    assert len(told) == 8
    assert all(max(one.max_recall.values()) == 1 for one in told)
    assert all(one.errors["trans_err"] < 1e-3 and one.errors["scale_err"] < 1e-6 for one in told)
    assert all(one.errors["orient_err"] < 0.03 for one in told if one.name != "traffic_cone")
    meta = json.loads(path.read_text())["meta"]
    assert meta["use_camera"]
    assert not meta["use_map"]


def global_truth(folder):
    """The keyframe's boxes taken to the globe with its own matrices."""
    info = json.loads((KEYFRAME / "info.json").read_text())
    names = {number: name for name, number in info["metainfo"]["categories"].items()}
    (frame,) = info["data_list"]
    map_from_lidar = np.array(frame["ego2global"]) @ np.array(frame["lidar_points"]["lidar2ego"])
    boxes = []
    for one in frame["instances"]:
        if names.get(one["bbox_label_3d"]) not in CLASSES:
            continue
        x, y, z, length, width, height, yaw = one["bbox_3d"]
        nose = map_from_lidar[:3, :3] @ [np.cos(yaw), np.sin(yaw), 0]
        heading = np.arctan2(nose[1], nose[0])
        boxes.append(
            {
                "translation": (map_from_lidar @ [x, y, z, 1])[:3].tolist(),
                "size": [width, length, height],
                "rotation": [np.cos(heading / 2), 0, 0, np.sin(heading / 2)],
                "velocity": [0.0, 0.0],
                "detection_name": names[one["bbox_label_3d"]],
            }
        )
    path = folder / "truth.json"
    path.write_text(json.dumps({frame["token"]: boxes}))
    return path


def a_run(draw, *times_ns, box=CAR, label="car"):
    samples = [sample(n, time_ns) for n, time_ns in enumerate(times_ns, 1)]
    items = [item(1, n, time_ns, label, 0.9, box) for n, time_ns in enumerate(times_ns, 1)]
    return draw.of(Task.load("nuscenes"), samples, items)


def test_every_keyframe_is_there_and_samples_between_are_not(draw, tmp_path):
    reader = Posed({1_000_000_000: "one", 1_500_000_000: "two", 2_000_000_000: "three"})
    run = a_run(draw, 1_000_000_000, 1_250_000_000, 2_000_000_000)
    done = nuscenes.export(run, {"drawn": lambda: reader}, tmp_path)
    written = json.loads(done.files[0].read_text())["results"]
    assert {token: len(boxes) for token, boxes in written.items()} == {"one": 1, "two": 0, "three": 1}
    assert done.notes == ("1 of 3 keyframes have no sample near them, and so no box",)


@pytest.mark.parametrize(("from_s", "tokens"), [(0.0, ["one", "two", "three"]), (0.4, ["two", "three"])])
def test_so_it_is_of_a_scene_as_a_run_reads_it(draw, tmp_path, monkeypatch, from_s, tokens):
    """A scene of the tables is continuous: its times are checked, and it may be cut."""

    class Scene(Posed):
        def info(self):
            sweeps = SensorInfo.of_times(Modality.LIDAR, "LIDAR_TOP", sorted(self.tokens))
            return replace(super().info(), sensors={"lidar-top": sweeps})

        def readings(self, start_cursor=0):
            for cursor, time_ns in enumerate(sorted(self.tokens), 1):
                if cursor > start_cursor:
                    yield cursor, Reading("lidar-top", Modality.LIDAR, time_ns, EMPTY[Modality.LIDAR])

    scene = Scene({1_000_000_000: "one", 1_500_000_000: "two", 2_000_000_000: "three"})
    monkeypatch.setattr(jobs, "open_recording", lambda *_, **__: scene)
    task = Task.load("nuscenes")
    reader = jobs.open_job(Job("drawn", "scene", from_s=from_s), task)
    run = a_run(draw, *(time_ns for time_ns, token in scene.tokens.items() if token in tokens))
    done = nuscenes.export(run, {"drawn": lambda: reader}, tmp_path)
    written = json.loads(done.files[0].read_text())["results"]
    assert {token: len(boxes) for token, boxes in written.items()} == dict.fromkeys(tokens, 1)
    assert done.notes == ()


def test_only_the_best_boxes_are_sent(draw, tmp_path, monkeypatch):
    monkeypatch.setattr(nuscenes, "MAX_BOXES_PER_SAMPLE", 2)
    run = a_run(draw, 1_000_000_000)
    items = tuple(replace(run.items[0], id=f"d/1#{n}", score=score) for n, score in enumerate((0.3, 0.9, 0.5)))
    done = nuscenes.export(draw.changed(run, items=items), {"drawn": lambda: Posed({1_000_000_000: "one"})}, tmp_path)
    scores = [box["detection_score"] for box in json.loads(done.files[0].read_text())["results"]["one"]]
    assert scores == [0.9, 0.5]


@pytest.mark.parametrize(
    ("reader", "box", "words"),
    [
        (
            Posed({1_000_000_000: "one"}, format="mcap"),
            Box3D(1, 1, 1, 1, 1, 1, 0),
            "recording drawn: not read from nuScenes",
        ),
        (Posed({}), Box3D(1, 1, 1, 1, 1, 1, 0), "recording drawn: not read from nuScenes"),
        (Posed({1_000_000_000: "one"}), None, "no box in space"),
    ],
)
def test_what_makes_no_sense_is_told(draw, tmp_path, reader, box, words):
    with pytest.raises(UnsuitedError, match=words):
        nuscenes.export(a_run(draw, 1_000_000_000, box=box), {"drawn": lambda: reader}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_task_that_nuscenes_does_not_know_is_told(drawn_run, drawn_recording, tmp_path):
    with pytest.raises(UnsuitedError, match=r"task yard: cone, .* is no class of nuScenes"):
        nuscenes.export(drawn_run, {"drawn": lambda: drawn_recording}, tmp_path)
