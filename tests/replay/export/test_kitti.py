"""KITTI's files, read back by the evaluator, say what the run says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.evaluation.kitti import evaluate_kitti
from fusion.evaluation.kitti_labels import KittiObjects, read_kitti_folders, read_kitti_labels
from fusion.geometry import apply, invert
from fusion.recording import open_recording
from fusion.recording.driving.kitti_calibration import CalibrationFolder
from fusion.recording.driving.kitti_labels import read_labels
from fusion.task import Task
from fusion.types import Box2D, ItemState, Modality
from replay.export.base import UnsuitedError
from replay.export.boxes import kitti
from replay.results.records import ItemResult, SampleResult
from replay.running.plan import Job
from replay.sources.jobs import open_job

DATA = Path(__file__).parents[3] / "../shared/data"
RENAMED = {
    "drum": "car",
    "pallet": "van",
    "crate": "truck",
    "cone": "cyclist",
    "person": "pedestrian",
    "forklift": "tram",
}


def renamed(thing):
    return replace(thing, label=RENAMED[thing.label])


@pytest.fixture
def traffic(draw, drawn_run, drawn_recording):
    """The drawn run, its things being called what KITTI knows; items carry a fused box somewhat beside the true one."""
    rng = np.random.default_rng(3)
    task = Task.model_validate({**drawn_run.task.model_dump(), "classes": list(RENAMED.values())})
    samples = [
        replace(s, truths=tuple(map(renamed, drawn_recording.objects(i)))) for i, s in enumerate(drawn_run.samples)
    ]
    items = [
        replace(
            item,
            label=RENAMED[item.label],
            box3d=replace(item.truth.box3d, x=item.truth.box3d.x + float(rng.normal(0, 0.02))),
        )
        for item in drawn_run.items
    ]
    return draw.of(task, samples, items)


def of_memory(run, rectified_from_ego):
    """What the files should hold, put together another way: box after box, corner after corner."""
    labels, detections = [], []
    for sample in run.samples:
        things = [(thing.label, thing.box2d, thing.box3d, 0.0, 0) for thing in sample.truths]
        items = [(i.label, i.box, i.box3d, i.score, -1) for i in run.items if i.sequence == sample.sequence]
        for found, told in ((labels, things), (detections, items)):
            rows = [row(flat, solid, score, hidden, rectified_from_ego) for _, flat, solid, score, hidden in told]
            found.append(KittiObjects.from_rows([name.capitalize() for name, *_ in told], rows))
    return labels, detections


def row(flat, solid, score, hidden, rectified_from_ego):
    c, s = np.cos(solid.yaw), np.sin(solid.yaw)
    centre, nose = apply(
        rectified_from_ego, np.array([[solid.x, solid.y, solid.z], [solid.x + c, solid.y + s, solid.z]])
    )
    turn = np.arctan2(-(nose - centre)[2], (nose - centre)[0])
    size = (solid.height, solid.width, solid.length)
    place = (centre[0], centre[1] + solid.height / 2, centre[2])
    return [
        -1,
        hidden,
        turn - np.arctan2(place[0], place[2]),
        flat.x1,
        flat.y1,
        flat.x2,
        flat.y2,
        *size,
        *place,
        turn,
        score,
    ]


def test_the_evaluator_gives_the_same_figures_for_files_and_memory(traffic, drawn_recording, tmp_path):
    kitti.export(traffic, {"drawn": lambda: drawn_recording}, tmp_path)
    folder = tmp_path / "kitti" / "drawn"
    from_files = evaluate_kitti(*read_kitti_folders(folder / "label_2", folder / "data"))
    from_memory = evaluate_kitti(*of_memory(traffic, invert(drawn_recording.camera.ego_from_camera)))
    figures = [(value.r40, value.r11, value.labels) for value in from_memory.values]
    for value, (r40, r11, labels) in zip(from_files.values, figures, strict=True):
        assert value.labels == labels
        assert (value.r40, value.r11) == (pytest.approx(r40, abs=1e-6), pytest.approx(r11, abs=1e-6))
    assert from_files.value("Car", "bbox", "hard").r40 > 0


def test_boxes_are_placed_by_the_calibration_beside_them(traffic, drawn_recording, tmp_path):
    kitti.export(traffic, {"drawn": lambda: drawn_recording}, tmp_path)
    folder = tmp_path / "kitti" / "drawn"
    of_frame = CalibrationFolder(folder / "calib").of("000003")
    again = list(read_labels(folder / "label_2" / "000003.txt", of_frame.ego_from_rectified, 1))
    for told, true in zip(again, drawn_recording.objects(3), strict=True):
        assert told.label == RENAMED[true.label]
        assert np.allclose(
            [told.box3d.x, told.box3d.y], [true.box3d.x, true.box3d.y], atol=0.06
        )  # stands on tilted axes
        assert told.box3d.yaw == pytest.approx(true.box3d.yaw, abs=0.01)
    rows = (folder / "frames.csv").read_text().splitlines()
    assert rows[0] == "frame,sequence,time_ns"
    assert rows[4] == f"000003,4,{drawn_recording.time(3)}"


def test_a_frame_without_detections_is_an_empty_file(traffic, draw, drawn_recording, tmp_path):
    fewer = draw.changed(traffic, items=tuple(item for item in traffic.items if item.sequence != 2))
    kitti.export(fewer, {"drawn": lambda: drawn_recording}, tmp_path)
    assert (tmp_path / "kitti" / "drawn" / "data" / "000001.txt").read_bytes() == b""
    assert len(list((tmp_path / "kitti" / "drawn" / "data").iterdir())) == len(traffic.samples)


def test_a_detection_without_a_box_in_space_says_so(traffic, draw, drawn_recording, tmp_path):
    flat = draw.changed(traffic, items=tuple(replace(item, box3d=None) for item in traffic.items))
    kitti.export(flat, {"drawn": lambda: drawn_recording}, tmp_path)
    found = read_kitti_labels(tmp_path / "kitti" / "drawn" / "data" / "000000.txt", scored=True)
    assert (found.dimensions == -1).all()
    assert (found.alpha == -10).all()


def test_frames_of_an_earlier_export_are_gone(traffic, draw, drawn_recording, tmp_path):
    kitti.export(traffic, {"drawn": lambda: drawn_recording}, tmp_path)
    kitti.export(draw.changed(traffic, samples=traffic.samples[:2]), {"drawn": lambda: drawn_recording}, tmp_path)
    folder = tmp_path / "kitti"
    assert sorted(path.name for path in (folder / "drawn" / "data").iterdir()) == ["000000.txt", "000001.txt"]
    assert [path.name for path in folder.iterdir()] == ["drawn"]


def test_a_task_that_kitti_does_not_know_is_told(drawn_run, drawn_recording, tmp_path):
    with pytest.raises(UnsuitedError, match=r"task yard: none of its classes \(drum, .* is one of KITTI's"):
        kitti.export(drawn_run, {"drawn": lambda: drawn_recording}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_one_clear_line(traffic, drawn_recording, tmp_path):
    (tmp_path / "kitti").write_text("")
    with pytest.raises(InputError, match=r"kitti/drawn: cannot be written"):
        kitti.export(traffic, {"drawn": lambda: drawn_recording}, tmp_path)


def test_kittis_own_frames_come_out_as_their_labels(draw, tmp_path):
    """Truth that goes through the reader and the exporter as detections is what the label files say."""
    data = DATA / "kitti_object" / "training"
    if not data.is_dir():
        pytest.skip("KITTI object is not in ../shared/data")
    task, reader = Task.load("kitti"), open_recording(data)
    run = told_by_truth(draw, task, reader)
    kitti.export(run, {"drawn": lambda: reader}, tmp_path)
    folder = tmp_path / "kitti" / "drawn"
    assert not (folder / "calib").exists()
    assert (folder / "frames.txt").read_text().split() == ["000000", "000001"]
    truth, found = read_kitti_folders(data / "label_2", folder / "data", ["000000", "000001"])
    compared = 0
    for labels, detections in zip(truth, found, strict=True):
        rows = np.isin(labels.names, ["Car", "Pedestrian", "Cyclist"])
        assert labels.names[rows].tolist() == detections.names.tolist()
        assert np.allclose(labels.image_boxes[rows], detections.image_boxes, atol=1e-3)
        assert np.allclose(labels.dimensions[rows], detections.dimensions, atol=1e-5)
        assert np.allclose(labels.locations[rows], detections.locations, atol=1e-5)
        assert np.allclose(labels.rotation_y[rows], detections.rotation_y, atol=0.002)
        assert np.allclose(labels.alpha[rows], detections.alpha, atol=0.02)
        compared += int(rows.sum())
    assert compared >= 3


def test_a_raw_drives_frames_keep_their_numbers(draw, tmp_path):
    drive = DATA / "kitti_raw" / "2011_09_26" / "2011_09_26_drive_0052_sync"
    if not drive.is_dir():
        pytest.skip("the KITTI drive is not in ../shared/data")
    reader = open_recording(drive)
    run = told_by_truth(draw, Task.load("kitti"), reader)
    kitti.export(run, {"drawn": lambda: reader}, tmp_path)
    names = {path.stem for path in (tmp_path / "kitti" / "drawn" / "data").iterdir()}
    assert names == {path.stem for path in (drive / "image_02" / "data").iterdir()}


def test_a_run_of_frames_from_somewhere_on_keeps_their_numbers_and_calibrations(draw, tmp_path):
    data, task = DATA / "kitti_object" / "training", Task.load("kitti")
    if not data.is_dir():
        pytest.skip("KITTI object is not in ../shared/data")
    written = []
    for from_s in (0.0, 0.05):
        reader = open_job(Job("drawn", str(data), from_s=from_s), task)
        out = tmp_path / str(from_s)
        kitti.export(told_by_truth(draw, task, reader), {"drawn": lambda reader=reader: reader}, out)
        folder = out / "kitti" / "drawn"
        written.append({path.relative_to(folder): path.read_text() for path in folder.glob("*/*.txt")})
    whole, part = written
    assert {path.stem for path in whole} - {path.stem for path in part} == {"000000"}
    assert part == {path: text for path, text in whole.items() if path.stem != "000000"}
    assert part[Path("data/000001.txt")].endswith(" 0.5\n")


@pytest.mark.parametrize("from_s", [0.0, 0.15])
def test_so_does_a_run_of_a_raw_drive(draw, tmp_path, from_s):
    drive, task = DATA / "kitti_raw" / "2011_09_26" / "2011_09_26_drive_0052_sync", Task.load("kitti")
    if not drive.is_dir():
        pytest.skip("the KITTI drive is not in ../shared/data")
    reader = open_job(Job("drawn", str(drive), from_s=from_s), task)
    kitti.export(told_by_truth(draw, task, reader), {"drawn": lambda: reader}, tmp_path)
    names = sorted(path.stem for path in (tmp_path / "kitti" / "drawn" / "data").iterdir())
    frames = sorted(path.stem for path in (drive / "image_02" / "data").iterdir())
    assert names == frames[len(frames) - len(names) :]
    assert (len(names) == len(frames)) == (from_s == 0)


def told_by_truth(draw, task, reader):
    """A run whose samples are the left pictures, and whose items are what is true in them."""
    truths = {truth.time_ns: truth.objects for truth in reader.truth()}
    samples, items = [], []
    times = [r.capture_time_ns for _, r in reader.readings() if r.modality is Modality.CAMERA]
    for number, time_ns in enumerate(sorted(set(times)), 1):
        samples.append(SampleResult(number, number, time_ns, 1, 1, 1, 1, {"left": 0.0}, "", truths.get(time_ns)))
        for n, t in enumerate(truths.get(time_ns, ())):
            if t.label in task.classes:
                box = t.box2d or Box2D(0, 0, 1, 1)
                found = ItemResult(f"d/{number}#{n}", number, time_ns, 0, box, t.label, 0.5, ItemState.PASSED, ())
                items.append(replace(found, box3d=t.box3d))
    return draw.of(task, samples, items)
