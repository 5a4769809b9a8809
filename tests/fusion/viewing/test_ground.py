"""A model over the ground looks at recordings: whatever is missing, the answer is finite and says what was there."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion.cli import main
from fusion.geometry import Rig
from fusion.task import Task
from fusion.viewing.ground import GroundViewer
from fusion.viewing.models import choose_model
from fusion.viewing.moments import Choice
from fusion.viewing.seen import Part, SeenFrame

from .conftest import EMPTY_SWEEP, MOMENTS, NO_CAMERA, drive_rig, save_tiny, write_drive

KEYFRAME = Path(__file__).parents[3] / "../shared/data/nuscenes_keyframe"
OBJECTS = Path(__file__).parents[3] / "../shared/data/kitti_object"


@pytest.mark.parametrize(("name", "begins"), [("p.png", b"\x89PNG"), ("p.jpg", b"\xff\xd8"), ("p.JPEG", b"\xff\xd8")])
def test_a_picture_is_what_it_is_called(
    drive: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, begins: bytes
) -> None:
    assert main(["perceive", str(drive), "--model", str(tiny), "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert "unsupported key" not in capfd.readouterr().err  # OpenCV, of the options of another format


def look(recording: Path, model: Path, *withheld: str) -> list[SeenFrame]:
    chosen = choose_model(recording, None, model)
    return list(GroundViewer(recording, chosen, withheld, floor=0.0).frames(Choice()))


@pytest.fixture(scope="module")
def whole(drive: Path, tiny: Path) -> list[SeenFrame]:
    """Every moment of the drive with all that was recorded."""
    return look(drive, tiny)


def parts(frame: SeenFrame) -> dict[str, str]:
    return {sensor.name: sensor.part.value for sensor in frame.sensors}


def numbers(frame: SeenFrame) -> np.ndarray:
    """Everything that is told of the objects (n, 10)."""
    rows = [
        (o.score, *(o.velocity or ()), o.box.x, o.box.y, o.box.z, o.box.length, o.box.width, o.box.height, o.box.yaw)
        for o in frame.objects
    ]
    return np.array(rows)


def check(frame: SeenFrame) -> None:
    assert numbers(frame).shape == (8, 10)
    assert np.isfinite(numbers(frame)).all()


def test_a_missing_camera_and_an_empty_sweep_are_told(whole: list[SeenFrame]) -> None:
    frames = whole
    assert len(frames) == MOMENTS
    for frame in frames:
        check(frame)
    assert set(parts(frames[0]).values()) == {"read"}
    assert {name for name, part in parts(frames[NO_CAMERA]).items() if part != "read"} == {"cam-back"}
    assert parts(frames[NO_CAMERA])["cam-back"] == "absent"
    lidar = frames[EMPTY_SWEEP].sensors[-1]
    assert (lidar.name, lidar.part, lidar.points) == ("lidar-top", Part.READ, 0)
    ages = {sensor.name: sensor.age_s for sensor in frames[0].sensors}
    assert ages["cam-front"] == pytest.approx(0.02, abs=1e-4)
    assert ages["lidar-top"] == 0
    assert [shot.absent for shot in frames[NO_CAMERA].shots].count(True) == 1


def test_what_is_held_back_is_as_good_as_never_recorded(drive: Path, tiny: Path, whole: list[SeenFrame]) -> None:
    held = look(drive, tiny, "cam-back")
    assert parts(held[0])["cam-back"] == "withheld"
    assert parts(held[NO_CAMERA])["cam-back"] == "absent"
    np.testing.assert_array_equal(numbers(held[NO_CAMERA]), numbers(whole[NO_CAMERA]))
    assert not np.array_equal(numbers(held[0]), numbers(whole[0]))


def test_nothing_at_all_still_gives_an_answer(drive: Path, tiny: Path, nuscenes: Task) -> None:
    frames = look(drive, tiny, *nuscenes.sensors)
    for frame in frames:
        check(frame)
        assert set(parts(frame).values()) <= {"withheld", "absent"}
        assert all(sensor.age_s is None for sensor in frame.sensors)
        assert not len(frame.points)
    np.testing.assert_array_equal(numbers(frames[0]), numbers(frames[3]))  # there is nothing to tell them apart by


def test_the_command_writes_pictures_and_objects(
    drive: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, objects = tmp_path / "seen", tmp_path / "seen.json"
    command = ["perceive", str(drive), "--model", str(tiny.parent), "--every", "4", "--truth", "--score", "0"]
    assert main([*command, "--without", "lidar", "--json", str(objects), "-o", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("wrote") == 2
    assert "cam-front 20 ms" in printed
    assert "without lidar-top (withheld)" in printed
    assert sorted(path.name for path in out.iterdir()) == ["000000.020s.png", "000004.020s.png"]
    assert cv2.imread(str(out / "000000.020s.png")).shape[1] == 1280
    record = json.loads(objects.read_text())
    assert record["model"]["layout"] == "bev"
    first, second = record["frames"]
    assert (len(first["objects"]), first["objects"][0]["box3d"].keys()) == (
        8,
        {"x", "y", "z", "length", "width", "height", "yaw"},
    )
    assert first["sensors"]["lidar-top"] == {
        "modality": "lidar", "part": "withheld", "present": False, "age_s": None,
    }  # fmt: skip
    assert len(first["objects"][0]["velocity"]) == 2
    assert [one["label"] for one in first["truth"]] == ["car"]
    assert second["truth"] is None


def test_one_sweep_tells_no_velocity(tmp_path: Path) -> None:
    if not OBJECTS.exists():
        pytest.skip(f"{OBJECTS} is not here")
    frames = look(OBJECTS, save_tiny(tmp_path, "kitti"))
    assert [frame.truth is not None for frame in frames] == [True, True, False]
    assert all(one.velocity is None for frame in frames for one in frame.objects)
    assert "nominal" in " ".join(frames[0].notes)
    assert [parts(frame)["left"] for frame in frames] == ["read"] * 3  # also the one with another calibration


@pytest.mark.parametrize("withheld", [(), ("cam-front-left",), ("lidar-top",), ("camera",), ("camera", "lidar")])
def test_the_nuscenes_keyframe_with_sensors_missing(
    withheld: tuple[str, ...], tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not KEYFRAME.exists():
        pytest.skip(f"{KEYFRAME} is not here")
    objects = tmp_path / "seen.json"
    command = ["perceive", str(KEYFRAME), "--model", str(tiny), "--score", "0", "--json", str(objects)]
    options = [word for name in withheld for word in ("--without", name)]
    assert main([*command, *options, "-o", str(tmp_path / "seen.png")]) == 0
    (frame,) = json.loads(objects.read_text())["frames"]
    assert len(frame["objects"]) == 8
    gone = {name for name, sensor in frame["sensors"].items() if not sensor["present"]}
    meant = {name for name, sensor in frame["sensors"].items() if {name, sensor["modality"]} & set(withheld)}
    assert gone == meant
    assert all(sensor["present"] == (sensor["age_s"] is not None) for sensor in frame["sensors"].values())
    assert ("no sensor at all" in capsys.readouterr().out) == (len(gone) == 7)


def test_a_sensor_without_calibration_is_named(
    tiny: Path, nuscenes: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = drive_rig(nuscenes)
    cameras = {name: camera for name, camera in rig.cameras.items() if name != "cam-back"}
    recording = write_drive(tmp_path / "partly.mcap", Rig(cameras, rig.ego_from_lidar))
    command = ["perceive", str(recording), "--model", str(tiny), "-o", str(tmp_path / "p.png")]
    assert main(command) == 3
    assert "no calibration of camera 'cam-back'" in capsys.readouterr().err
    assert main([*command, "--without", "cam-back"]) == 0
