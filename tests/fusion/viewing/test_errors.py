"""What cannot be perceived is refused in one line that says why and what to do."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion.cli import main
from fusion.geometry import Rig
from fusion.recording.native.writer import RecordingWriter
from fusion.types import Image

from .conftest import START_NS

YARD = Path(__file__).parents[3] / "fusion/recordings/yard.mcap"
PCD = """FIELDS x y z intensity
SIZE 4 4 4 4
TYPE F F F F
WIDTH 1
HEIGHT 1
DATA ascii
5 0 0 51
"""


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What is said on stderr; one line, no traceback."""
    assert main(["perceive", *map(str, words)]) in {2, 3, 4}
    said = capsys.readouterr().err.splitlines()
    lines = [line for line in said if line.startswith("fusion: ")]
    assert len(lines) == 1
    assert "Traceback" not in "\n".join(said)
    assert "defect" not in lines[0]
    return lines[0]


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A camera and a LiDAR with their calibration, of no task."""
    folder = tmp_path / "pair"
    folder.mkdir()
    (folder / "calib.pcd").write_text(PCD)
    cv2.imwrite(str(folder / "calib.png"), np.full((16, 24, 3), 90, np.uint8))
    (folder / "calib.txt").write_text("K: 20 0 12 0 20 8 0 0 1\nD: 0.1 0 0 0\nT: 0 -1 0 0.5 0 0 -1 0 1 0 0 0\n")
    return folder


def test_a_recording_without_a_fitting_model(
    pair: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, pair, "-o", tmp_path / "p.png")
    assert "names no task" in said
    assert "fusion inspect RECORDING --picture" in said
    assert "task yard" in refused(capsys, pair, "--task", "yard", "-o", tmp_path / "p.png")
    assert "kitti" in refused(capsys, pair, "--task", "kitti", "-o", tmp_path / "p.png")
    assert str(pair) in refused(capsys, pair, "--model", tiny, "-o", tmp_path / "p.png")


def test_a_model_of_another_task(tiny: Path, drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p.png"
    said = refused(capsys, drive, "--model", tiny, "--task", "kitti", "-o", out)
    assert "'nuscenes', not 'kitti'" in said
    assert "nuscenes" in refused(capsys, YARD, "--model", tiny, "-o", out)  # the recording has none of its sensors
    assert "no fusion model of task pcb is bundled (only: yard)" in refused(capsys, YARD, "--task", "pcb", "-o", out)
    assert "fusion.json" in refused(capsys, YARD, "--model", tmp_path, "-o", out)
    assert "no task named 'harbour'" in refused(capsys, YARD, "--task", "harbour", "-o", out)
    assert not out.exists()


def test_bundles_that_are_not_whole(
    tiny: Path, drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "fusion.json").write_bytes((tiny / "fusion.json").read_bytes())
    assert "fusion.safetensors" in refused(capsys, drive, "--model", broken, "-o", tmp_path / "p.png")
    (broken / "fusion.json").write_text("[]")
    assert "fusion.json" in refused(capsys, drive, "--model", broken, "-o", tmp_path / "p.png")
    bundle = Path(__file__).parents[3] / "fusion/weights/yard"
    (broken / "fusion.json").write_bytes((bundle / "fusion.json").read_bytes())
    assert "profile" in refused(capsys, YARD, "--model", broken, "-o", tmp_path / "p.png")


def test_wrong_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p.png"
    assert "no such sensor" in refused(capsys, YARD, "--without", "cam-front", "-o", out)
    assert "--score 2" in refused(capsys, YARD, "--score", "2", "-o", out)
    assert "--threads 0" in refused(capsys, YARD, "--threads", "0", "-o", out)
    assert "folder" in refused(capsys, YARD, "--every", "1", "-o", out)
    assert "no moment from second 99" in refused(capsys, YARD, "--at", "99", "-o", out)
    assert "no such file" in refused(capsys, tmp_path / "gone.mcap", "-o", out)
    (tmp_path / "file").touch()
    assert "is a file" in refused(capsys, YARD, "-o", tmp_path / "file")
    assert "b.webp: pictures are .png, .jpg or .jpeg" in refused(capsys, YARD, "-o", tmp_path / "b.webp")
    assert "b.TIFF: pictures are" in refused(capsys, YARD, "-o", tmp_path / "b.TIFF")
    assert not (tmp_path / "b.webp").exists()
    assert not out.exists()


def test_a_recording_without_calibration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = tmp_path / "bare.mcap"
    with RecordingWriter(recording, Rig({}, {}), "yard") as writer:
        writer.camera("front", START_NS, Image(np.zeros((64, 96, 3), np.uint8)))
    said = refused(capsys, recording, "-o", tmp_path / "p.png")
    assert "no calibration of camera 'front'" in said
