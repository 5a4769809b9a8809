"""COCO's files give the figures that the run itself tells."""

import json
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from faster_coco_eval import COCO, COCOeval_faster

from fusion.errors import RecordingError
from fusion.recording import open_recording
from fusion.task import Task
from fusion.types import ItemState
from replay.cli import main
from replay.export.base import UnsuitedError
from replay.export.boxes import coco
from replay.results.records import ItemResult, RunResults, SampleResult
from replay.results.summary import counts_as_seen, detector_map50
from replay.running.plan import Job
from replay.sources.jobs import open_job

DATA = Path(__file__).parents[3] / "../shared/data/coco"


def evaluated(folder):
    """COCO's twelve figures, by the maintained evaluator."""
    with redirect_stdout(StringIO()):
        truth = COCO(str(folder / "instances.json"))
        evaluation = COCOeval_faster(truth, truth.loadRes(str(folder / "detections.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


@pytest.fixture
def judged(draw, drawn_run, drawn_recording):
    """The drawn run, whose samples tell their truth; one class is confused in a third of its items."""
    samples = tuple(replace(s, truths=drawn_recording.objects(i)) for i, s in enumerate(drawn_run.samples))
    items = tuple(
        replace(item, label="crate") if item.label == "cone" and item.sequence % 3 == 0 else item
        for item in drawn_run.items
    )
    return draw.changed(drawn_run, samples=samples, items=items)


def test_the_evaluator_finds_what_the_run_tells(judged, drawn_recording, tmp_path):
    coco.export(judged, {"drawn": lambda: drawn_recording}, tmp_path)
    told = detector_map50(judged.task, judged.recordings)
    assert 0.5 < told < 1
    assert round(float(evaluated(tmp_path / "coco")[1]), 4) == told


def test_pictures_and_categories_are_told(judged, drawn_recording, tmp_path):
    coco.export(judged, {"drawn": lambda: drawn_recording}, tmp_path)
    told = json.loads((tmp_path / "coco" / "instances.json").read_text())
    assert [c["name"] for c in told["categories"]] == list(judged.task.classes)
    assert {(image["width"], image["height"]) for image in told["images"]} == {(640, 384)}
    assert [image["time_ns"] for image in told["images"]] == [sample.time_ns for sample in judged.samples]
    assert len({image["file_name"] for image in told["images"]}) == len(told["images"])


def test_recordings_without_truth_are_left_out_where_others_have_it(judged, drawn_run, drawn_recording, tmp_path):
    blind = replace(drawn_run.recordings[0], name="blind")
    both = RunResults(judged.task, (blind, *judged.recordings), {})
    opened = {name: lambda: drawn_recording for name in ("drawn", "blind")}
    done = coco.export(both, opened, tmp_path / "both")
    coco.export(judged, opened, tmp_path / "one")
    assert done.notes == ("without blind, of which no truth is told",)
    assert (evaluated(tmp_path / "both" / "coco") == evaluated(tmp_path / "one" / "coco")).all()


def test_samples_without_truth_are_left_out_where_others_have_it(judged, drawn_recording, tmp_path):
    one = judged.recordings[0]
    samples = tuple(replace(s, truths=None) if n % 2 else s for n, s in enumerate(one.samples))
    half = RunResults(judged.task, (replace(one, samples=samples),), {})
    done = coco.export(half, {"drawn": lambda: drawn_recording}, tmp_path)
    told = detector_map50(half.task, half.recordings)
    assert 0.5 < told < 1
    assert round(float(evaluated(tmp_path / "coco")[1]), 4) == told
    assert done.notes == (f"without {len(samples) // 2} samples at which no truth is told",)


def test_without_any_truth_there_are_pictures_and_detections(drawn_run, drawn_recording, tmp_path):
    done = coco.export(drawn_run, {"drawn": lambda: drawn_recording}, tmp_path)
    told = json.loads((tmp_path / "coco" / "instances.json").read_text())
    assert told["annotations"] == []
    assert len(json.loads((tmp_path / "coco" / "detections.json").read_text())) == len(drawn_run.items)
    assert "no recording tells any truth" in done.notes[0]


def test_a_task_without_a_camera_is_told(drawn_run, drawn_recording, tmp_path):
    sensors = {"roof": drawn_run.task.sensors["roof"]}
    deaf = RunResults(
        Task.model_validate({**drawn_run.task.model_dump(), "sensors": sensors}), drawn_run.recordings, {}
    )
    with pytest.raises(UnsuitedError, match="task yard has no camera"):
        coco.export(deaf, {"drawn": lambda: drawn_recording}, tmp_path)


def test_a_place_that_cannot_be_written_is_one_clear_line(judged, drawn_recording, tmp_path):
    (tmp_path / "coco").write_text("")
    with pytest.raises(RecordingError, match=r"instances\.json: cannot be written"):
        coco.export(judged, {"drawn": lambda: drawn_recording}, tmp_path)


def test_a_real_runs_files_give_its_summarys_figure(short_run):
    out, _ = short_run
    assert main(["export", str(out), "--as", "coco"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert round(float(evaluated(out / "coco")[1]), 4) == summary["detector_map50"] > 0


@pytest.mark.parametrize("from_s", [0.0, 20.0])
def test_pictures_of_coco_keep_their_ids_and_names(draw, drawn_run, tmp_path, from_s):
    if not DATA.is_dir():
        pytest.skip("COCO is not in ../shared/data")
    listed = json.loads((DATA / "instances.json").read_text())["images"]
    ids = {image["file_name"]: image["id"] for image in listed}
    whole = open_recording(DATA)
    labels = sorted({thing.label for truth in whole.truth() for thing in truth.objects} - {"dontcare"})
    camera = {"camera": {"modality": "camera", "width": 640, "height": 640, "rate_hz": 1.0}}
    task = Task.model_validate(
        {**drawn_run.task.model_dump(), "name": "things", "classes": labels, "conditions": [], "ordinary": [],
         "sensors": camera}
    )  # fmt: skip
    reader = open_job(Job("drawn", str(DATA), from_s=from_s), task)
    samples, items = [], []
    for number, truth in enumerate(reader.truth(), 1):
        samples.append(SampleResult(number, number, truth.time_ns, 1, 1, 1, 1, {"camera": 0.0}, "", truth.objects))
        things = [thing for thing in truth.objects if counts_as_seen(task, thing)]
        items += [
            ItemResult(f"d/{number}#{n}", number, truth.time_ns, 0, t.box2d, t.label, 0.5, ItemState.PASSED, ())
            for n, t in enumerate(things)
        ]
    coco.export(draw.of(task, samples, items), {"drawn": lambda: reader}, tmp_path)
    told = json.loads((tmp_path / "coco" / "instances.json").read_text())
    assert {image["file_name"]: image["id"] for image in told["images"]}.items() <= ids.items()
    assert len(told["images"]) == len(samples) > (5 if from_s else 40)
    sizes = {image["id"]: (image["width"], image["height"]) for image in listed}
    assert all(sizes[image["id"]] == (image["width"], image["height"]) for image in told["images"])
    assert evaluated(tmp_path / "coco")[1] == pytest.approx(1)
