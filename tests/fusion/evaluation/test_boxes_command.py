"""`fusion evaluate boxes`, from the command line to its files, and what it says of files it cannot use."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fusion import cli

ROOT = Path(__file__).parents[3]
CAR = "Car 0.00 0 -1.5 100.0 150.0 200.0 250.0 1.5 1.6 4.0 1.0 1.7 12.0 0.4"
BOX = {
    "translation": [10.0, 20.0, 1.0],
    "size": [1.9, 4.5, 1.6],
    "rotation": [1.0, 0.0, 0.0, 0.0],
    "velocity": [1.0, 0.0],
    "detection_name": "car",
    "attribute_name": "vehicle.moving",
}


@pytest.fixture
def kitti(tmp_path: Path) -> list[str]:
    """Forty-one frames with a car each, all found; the arguments that measure them."""
    for folder in ("label_2", "data"):
        (tmp_path / folder).mkdir()
    for frame in range(41):
        (tmp_path / "label_2" / f"{frame:06d}.txt").write_text(f"{CAR}\n")
        (tmp_path / "data" / f"{frame:06d}.txt").write_text(f"{CAR} 0.{50 + frame}\n")
    truth, detections = str(tmp_path / "label_2"), str(tmp_path / "data")
    return ["evaluate", "boxes", "--format", "kitti", "--truth", truth, "--detections", detections]


@pytest.fixture
def nuscenes(tmp_path: Path) -> list[str]:
    """One sample with a car, which is found; the arguments that measure it."""
    truth = {"a1": [{**BOX, "ego_translation": [5.0, 5.0, 1.0], "num_pts": 3}]}
    found = {"meta": {"use_lidar": True}, "results": {"a1": [{**BOX, "detection_score": 0.7}]}}
    for name, content in (("truth", truth), ("found", found)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    files = ["--truth", str(tmp_path / "truth.json"), "--detections", str(tmp_path / "found.json")]
    return ["evaluate", "boxes", "--format", "nuscenes", *files]


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str]:
    """Exit code and the one line that is said."""
    code = cli.main(arguments)
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.count("\n") == 1
    return code, printed.err


def test_kitti_folders(kitti, tmp_path: Path, capsys) -> None:
    assert cli.main([*kitti, "--out", str(tmp_path / "out" / "kitti")]) == 0
    table = "| Car | 3d | 0.7 | 100.00 | 100.00 | 100.00 | 100.00 | 100.00 | 100.00 |"
    assert table in capsys.readouterr().out
    assert table in (tmp_path / "out/kitti/metrics.md").read_text()
    written = json.loads((tmp_path / "out/kitti/metrics.json").read_text())
    assert written["ap"]["strict"]["R40"]["Car"]["3d"]["easy"] == pytest.approx(100)
    assert written["ap"]["strict"]["R40"]["Cyclist"]["3d"]["easy"] is None
    assert (written["frames"], written["num_valid_gt"]["Car"]["hard"]) == (41, 41)
    assert written["truth"] == str(tmp_path / "label_2")


def test_kitti_split(kitti, tmp_path: Path, capsys) -> None:
    (tmp_path / "data" / "000040.txt").unlink()
    code, said = refused(capsys, kitti)
    assert code == 3
    assert "data: 000040.txt is missing (1 of 41 frames are)" in said
    (tmp_path / "val.txt").write_text("000000\n000007\n")
    assert cli.main([*kitti, "--frames", str(tmp_path / "val.txt")]) == 0
    assert "2 frames" in capsys.readouterr().out
    (tmp_path / "val.txt").write_text("000000\n000007\n000000")
    assert refused(capsys, [*kitti, "--frames", str(tmp_path / "val.txt")])[1].endswith("names frame 000000 twice\n")
    (tmp_path / "val.txt").write_text("\n")
    assert refused(capsys, [*kitti, "--frames", str(tmp_path / "val.txt")])[1].endswith("names no frame\n")
    assert "no readable list" in refused(capsys, [*kitti, "--frames", str(tmp_path / "none.txt")])[1]


def test_a_malformed_line_is_one_line(kitti, tmp_path: Path, capsys) -> None:
    path = tmp_path / "data" / "000003.txt"
    path.write_text(f"{CAR} 0.5\n{CAR}\n")
    code, said = refused(capsys, kitti)
    assert code == 3
    assert said == f"fusion: {path}:2: 15 columns where a detection, its score last, has 16\n"


def test_missing_files(kitti, nuscenes, tmp_path: Path, capsys) -> None:
    for arguments, what in ((kitti, "not a folder"), (nuscenes, "cannot be read")):
        for option in ("--truth", "--detections"):
            changed = list(arguments)
            changed[changed.index(option) + 1] = str(tmp_path / "nowhere")
            code, said = refused(capsys, changed)
            assert code == 3
            assert f"{tmp_path / 'nowhere'}: {what}" in said


def test_nuscenes_submission(nuscenes, tmp_path: Path, capsys) -> None:
    assert cli.main([*nuscenes, "--out", str(tmp_path / "out")]) == 0
    assert "| car | 1 | 1 | 1.000 | 1.000 |" in capsys.readouterr().out
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    assert written["label_aps"]["car"] == dict.fromkeys(["0.5", "1.0", "2.0", "4.0"], pytest.approx(1))
    assert written["filtered"]
    assert "| car | 1 | 1 |" in (tmp_path / "out/metrics.md").read_text()


def test_nuscenes_options(nuscenes, tmp_path: Path, capsys) -> None:
    (tmp_path / "racks.json").write_text(json.dumps({"a1": [{**BOX, "size": [9, 9, 9]}]}))
    assert cli.main([*nuscenes, "--bike-racks", str(tmp_path / "racks.json")]) == 0
    assert "| car | 1 | 1 |" in capsys.readouterr().out, "a rack holds two-wheelers only"
    (tmp_path / "truth.json").write_text(json.dumps({"a1": []}))
    code, said = refused(capsys, nuscenes)
    assert code == 3
    assert "sample a1: neither the predictions nor the truth tell where the vehicle is" in said
    (tmp_path / "ego.json").write_text(json.dumps({"a1": [100, 20, 0]}))
    assert cli.main([*nuscenes, "--ego", str(tmp_path / "ego.json")]) == 0
    assert "| car | 0 | 0 |" in capsys.readouterr().out
    assert cli.main([*nuscenes, "--unfiltered"]) == 0
    assert "| car | 0 | 1 |" in capsys.readouterr().out


def test_malformed_boxes_are_one_line(nuscenes, tmp_path: Path, capsys) -> None:
    path = tmp_path / "found.json"
    path.write_text(json.dumps({"results": {"a1": [{**BOX, "size": "large"}]}}))
    code, said = refused(capsys, nuscenes)
    assert code == 3
    assert said == f"fusion: {path}: sample a1, box 0: 'size' is 'large'; 3 numbers above 0 must be there\n"
    path.write_text('{"a1": [')
    assert refused(capsys, nuscenes)[0] == 3


def test_options_of_the_other_format(kitti, nuscenes, capsys) -> None:
    assert refused(capsys, [*nuscenes, "--frames", "val.txt"]) == (
        2,
        "fusion: --frames has no meaning for --format nuscenes\n",
    )
    assert refused(capsys, [*kitti, "--bike-racks", "r.json"]) == (
        2,
        "fusion: --bike-racks has no meaning for --format kitti\n",
    )


def test_a_file_in_the_way(kitti, tmp_path: Path, capsys) -> None:
    (tmp_path / "out").write_text("")
    assert cli.main([*kitti, "--out", str(tmp_path / "out")]) == 3
    assert f"{tmp_path / 'out'}: results cannot be written" in capsys.readouterr().err


def test_models_are_still_evaluated() -> None:
    for model in ("detector", "fusion", "reviewer"):
        arguments = cli._parser().parse_args(["evaluate", model, "--task", "pcb", "--scenes", "5"])
        assert (arguments.model, arguments.task, arguments.scenes) == (model, "pcb", 5)
        assert arguments.run is cli._evaluate


def test_commands_of_the_page_are_understood() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    commands = [line.removeprefix("$ ") for line in re.findall(r"^\$ fusion .*$", page, re.MULTILINE)]
    assert len(commands) >= 3
    for command in commands:
        assert cli._parser().parse_args(shlex.split(command)[1:]).run is cli._evaluate_boxes


def test_no_torch_is_loaded() -> None:
    """The metrics run where only numpy is."""
    script = "import sys, fusion.evaluation.boxes; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"torch", "scipy", "shapely", "cv2", "numba"} & set(done.stdout.split())


def test_the_benchmark_runs(tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "detection_metrics.py"
    command = [sys.executable, str(script), "--frames", "40", "--repeats", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^KITTI +40 .* loops \(not compiled\)", done.stdout, re.MULTILINE)
    done = subprocess.run([*command, "--data", str(tmp_path / "none")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no such folder" in done.stderr
