"""Pairs of a sweep and a picture with their calibration: read, projected, and refused where they are malformed."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion.errors import RecordingError
from fusion.recording import open_recording
from fusion.recording.inspect import inspect_recording, projection_picture

DATA = Path(__file__).parents[4] / "../shared/data/opencalib"
HEADER = """FIELDS x y z intensity
SIZE 4 4 4 4
TYPE F F F F
WIDTH 3
HEIGHT 1
DATA binary
"""


def pair(folder, calibration="K: 20 0 12 0 20 8 0 0 1\nD: 0.1 0 0 0\nT: 0 -1 0 0.5 0 0 -1 0 1 0 0 0\n"):
    points = np.array([[5, 0, 0, 51], [5, 1, 0, 255], [-5, 0, 0, 0]], "<f4")
    (folder / "calib.pcd").write_bytes(HEADER.encode() + points.tobytes())
    cv2.imwrite(str(folder / "calib.png"), np.full((16, 24, 3), 90, np.uint8))
    (folder / "calib.txt").write_text(calibration)
    return folder


def test_a_calibration_pair_is_a_sweep_and_a_picture(tmp_path):
    reader = open_recording(pair(tmp_path))
    info = reader.info()
    assert info.format == "opencalib"
    assert list(info.sensors) == ["camera", "lidar"]
    assert "nominal" in info.notes["times"]
    camera = info.rig.cameras["camera"]
    assert (camera.width, camera.height, camera.k[0, 0], camera.distortion.size) == (24, 16, 20, 4)
    assert np.allclose(camera.ego_from_camera[:3, 3], [0, 0.5, 0])
    readings = list(reader.readings())
    assert [(c, r.sensor, r.capture_time_ns) for c, r in readings] == [(1, "lidar", 0), (2, "camera", 0)]
    assert readings[1][1].payload.pixels.shape == (16, 24, 3)
    assert [c for c, _ in reader.readings(1)] == [2]
    assert list(reader.readings(2)) == list(reader.truth()) == []
    assert set(reader.sizes()) == {"camera", "lidar"}
    projection_picture(tmp_path, tmp_path / "out.png")
    assert cv2.imread(str(tmp_path / "out.png")).shape == (16, 24, 3)


@pytest.mark.parametrize(
    ("calibration", "text"),
    [
        ("K: 1\n", r"calib.txt:1: 1 numbers, where 9 finite ones belong"),
        ("\nD: a\n", r"calib.txt:2: could not convert"),
        ("D: 0 0 0 0\n", "no line K, T in it"),
        ("K: 20 0 12 0 20 8 0 0 inf", "9 finite ones"),
    ],
)
def test_a_bad_calibration_is_named(tmp_path, calibration, text):
    with pytest.raises(RecordingError, match=text):
        open_recording(pair(tmp_path, calibration))


def test_a_transform_that_is_none_is_named(tmp_path):
    text = "K: 20 0 12 0 20 8 0 0 1\nD:\nT: 1 1 1 0 1 1 1 0 1 1 1 0\n"
    with pytest.raises(RecordingError, match="T does not begin with a rotation"):
        open_recording(pair(tmp_path, text)).info()


@pytest.mark.parametrize(("name", "count"), [("lidar2camera_b1", 101_340), ("lidar2camera_c", 85_546)])
def test_the_real_pairs_line_up(name, count, tmp_path):
    folder = DATA / name
    if not folder.exists():
        pytest.skip(f"{folder} is not here")
    inspection = inspect_recording(folder)
    form = "jpeg" if name.endswith("b1") else "png"
    assert inspection.firsts == {"camera": f"1920x1200 {form}", "lidar": f"{count} points"}
    points = next(open_recording(folder).readings())[1].payload.points
    _, inside = inspection.info.rig.cameras["camera"].project(np.asarray(points[:, :3], np.float64))
    assert 5_000 < np.count_nonzero(inside) < 20_000
    assert (points[inside][:, 0] > 0).all(), "what the camera sees lies ahead"
    projection_picture(folder, tmp_path / "out.png")
    assert cv2.imread(str(tmp_path / "out.png")).shape == (1200, 1920, 3)


def test_nothing_in_view_is_no_error(tmp_path):
    behind = "K: 20 0 12 0 20 8 0 0 1\nD:\nT: 0 -1 0 0 0 0 -1 0 1 0 0 -90\n"
    projection_picture(pair(tmp_path, behind), tmp_path / "out.png")
    assert (cv2.imread(str(tmp_path / "out.png")) == 54).all()
