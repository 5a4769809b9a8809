"""Recordings that nobody of this project made, through both nodes: what a user gets of each, or is told."""

import json
import shutil
from dataclasses import fields
from pathlib import Path

import pytest

from edge_node.models import model_folder
from fusion.task import Task
from replay.cli import main
from replay.running.plan import Job

DATA = Path("/work/shared/data")
KITTI = DATA / "kitti_raw" / "2011_09_26" / "2011_09_26_drive_0052_sync"
OUSTER = DATA / "ouster_pcap" / "OS-1-128_v2.3.0_1024x10_lb_n3.pcap"
CAN_MAP = "mapping" in {field.name for field in fields(Job)}
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real recordings here: {DATA}")
mapped = pytest.mark.skipif(not CAN_MAP, reason="this replay cannot map sensors yet (--map)")


def play(out, *arguments):
    """Exit code, summary and results of a run."""
    code = main(["run", *map(str, arguments), "--out", str(out), "--no-scene"])
    read = (
        json.loads((out / name).read_text()) if (out / name).is_file() else {}
        for name in ("summary.json", "results.json")
    )
    return code, *read


@pytest.fixture(scope="module")
def boards(tmp_path_factory):
    """The first dozen of DeepPCB's test list."""
    folder = tmp_path_factory.mktemp("pcb") / "boards"
    stems = (DATA / "deeppcb" / "test.txt").read_text().split()[:12]
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
        for stem in stems:
            for path in (DATA / "deeppcb" / part).glob(f"{stem}.*"):
                shutil.copy(path, folder / part)
    (folder / "test.txt").write_text("\n".join(stems) + "\n")
    return folder


@pytest.fixture(scope="module")
def without_fusion(tmp_path_factory):
    """The yard's detector and reviewer without the fusion model, which needs a calibrated camera."""
    folder = tmp_path_factory.mktemp("models") / "yard"
    shutil.copytree(model_folder(Task.load("yard"), ""), folder, ignore=shutil.ignore_patterns("fuser*"))
    return folder


def test_circuit_boards(boards, tmp_path):
    code, summary, results = play(tmp_path, boards, "--task", "pcb")
    assert code == 0
    assert summary["samples"] == 12
    assert summary["detector_map50"] > 0.8
    lines = (path.read_text().splitlines() for path in (boards / "labels").glob("*.txt"))
    assert 0 < summary["defects"] <= sum(map(len, lines))
    assert {one["recording"] for one in results["defects"]} == {"boards"}


@mapped
def test_a_kitti_drive_under_the_task_of_a_yard(tmp_path):
    code, summary, results = play(tmp_path, KITTI, "--task", "yard", "--map", "front=left", "--map", "roof=velodyne")
    assert code == 0
    assert summary["samples"] == 6
    assert summary["lost"] == summary["duplicates"] == 0
    assert summary["detector_map50"] is None
    assert summary["defects"] == 0
    judged = {item["time_ns"] for item in results["items"] if item["truth"]}
    assert judged <= {min(item["time_ns"] for item in results["items"])}, "the truth tells of the first frame alone"
    assert results["recordings"][0]["gaps"] == 0


@mapped
def test_a_nuscenes_keyframe_under_the_task_of_a_yard(tmp_path):
    folder = DATA / "nuscenes_keyframe"
    options = ["--map", "front=cam-front", "--map", "roof=lidar-top"]
    code, summary, results = play(tmp_path, folder, "--task", "yard", *options)
    assert code == 0
    assert summary["samples"] == 1
    assert not [item for item in results["items"] if item["truth"]], "the truth is in space alone"


@pytest.mark.parametrize("task", ["kitti", "nuscenes"])
def test_tasks_without_bundled_models_say_so(task, tmp_path, capsys):
    source = KITTI if task == "kitti" else DATA / "nuscenes_keyframe"
    assert main(["run", str(source), "--task", task, "--out", str(tmp_path)]) in (3, 4)
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("replay: ")
    assert "models" in told or "split" in told


@pytest.mark.parametrize(
    ("source", "lidar"), [(OUSTER, "ouster"), (DATA / "mcap_ouster" / "test.mcap", "os1-cloud-node-points")]
)
def test_a_lidar_alone_is_refused_with_a_way_to_look_at_it(source, lidar, tmp_path, capsys):
    """The yard's samples are made of pictures; unmapped, the recording has no sensor of the task at all."""
    options = ["--map", f"roof={lidar}"] if CAN_MAP else []
    assert main(["run", str(source), "--task", "yard", *options, "--out", str(tmp_path)]) == 3
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert source.name in told
    if CAN_MAP:
        assert "nothing of camera 'front'" in told
        assert f"fusion inspect {source}" in told


def test_a_clip_without_calibration_says_why_nothing_came_of_it(tmp_path, capsys):
    code, summary, _ = play(tmp_path, DATA / "video" / "kitti_0052_image02_78frames_10Hz.mp4")
    assert code == 0
    assert (summary["samples"], summary["gaps"]) == (0, 78)
    told = capsys.readouterr().err
    assert "no sample could be made of it: 78 of its frames became no sample" in told
    assert "camera 'front' has no calibration" in told
    assert "Nothing of kitti_0052_image02_78frames_10Hz could be used" in (tmp_path / "report.html").read_text()


def test_a_clip_runs_with_a_detector_alone(without_fusion, tmp_path):
    clip = DATA / "video" / "kitti_0052_image02_78frames_10Hz.mp4"
    code, summary, _ = play(tmp_path, clip, "--models", without_fusion)
    assert code == 0
    assert summary["samples"] == 78
    assert summary["gaps"] == 0
    assert summary["verdict_accuracy"] is None
