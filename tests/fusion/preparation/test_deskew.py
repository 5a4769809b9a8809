"""A drive along a wall: points of one turn of the sensor lie on it again once the vehicle's own motion is out."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.geometry import Rig, apply, invert, rigid, rotation_z
from fusion.preparation.deskew import deskewed, still_sweep
from fusion.preparation.ego_motion import EgoMotion
from fusion.preparation.sweeps import merge_sweeps
from fusion.recording import open_recording
from fusion.recording.base import EgoPose
from fusion.recording.native.writer import RecordingWriter
from fusion.types import Modality, PointCloud, Reading

START_NS = 1_700_000_000_000_000_000
TURN_S = 0.1
PLACED = rigid(rotation_z(-0.3), np.array([0.9, 0.1, 1.8]))
SPEED, YAW_RATE = 20.0, 0.5


def place(seconds: float, speed: float = SPEED, rate: float = YAW_RATE) -> np.ndarray:
    """`map_from_ego` on a circle, or straight on where `rate` is 0."""
    angle, far = rate * seconds, speed * seconds
    moved = [far * np.sinc(angle / np.pi), far * np.sinc(angle / 2 / np.pi) * np.sin(angle / 2), 0.0]
    return rigid(rotation_z(angle + 0.4), rotation_z(0.4) @ moved)


def poses(hz: float, *, until_s: float = 0.2, **drive: float) -> list[tuple[int, np.ndarray]]:
    return [(START_NS + round(n * 1e9 / hz), place(n / hz, **drive)) for n in range(-1, round(until_s * hz) + 1)]


def wall(seconds: np.ndarray, **drive: float) -> np.ndarray:
    """Points (n, 3) of a straight wall, each in the LiDAR's frame at its own time."""
    share = np.linspace(-1, 1, len(seconds))
    world = np.stack([20 * share + 5, np.full_like(share, 12.0), 1 + share], axis=1)
    return np.stack(
        [apply(invert(place(s, **drive) @ PLACED), p[None])[0] for s, p in zip(seconds, world, strict=True)]
    )


def sweep(seconds: np.ndarray, **drive: float) -> Reading:
    points = np.hstack([wall(seconds, **drive), np.ones((len(seconds), 1))]).astype(np.float32)
    return Reading("roof", Modality.LIDAR, START_NS, PointCloud(points, seconds.astype(np.float32)))


def bend(points: np.ndarray, at_s: float, **drive: float) -> float:
    """Metres by which points of the ego frame are off the wall, at most."""
    return float(np.abs(apply(place(at_s, **drive), points.astype(np.float64))[:, 1] - 12.0).max())


@pytest.mark.parametrize("drive", [{}, {"speed": 0.0, "rate": 1.0}, {"rate": 0.0}, {"speed": -5.0, "rate": -0.2}])
@pytest.mark.parametrize("at_s", [0.0, 0.1, 0.13])
def test_a_wall_stays_straight(drive, at_s):
    seconds = np.linspace(0, TURN_S, 500)
    motion = EgoMotion.of(poses(50, **drive))
    points = apply(PLACED, wall(seconds, **drive))
    times = START_NS + np.rint(seconds * 1e9).astype(np.int64)
    found = deskewed(points, times, START_NS + round(at_s * 1e9), motion)
    assert bend(found, at_s, **drive) < 1e-3
    assert drive == {"speed": -5.0, "rate": -0.2} or bend(points, 0.0, **drive) > 0.5


def test_a_recording_with_point_times_and_poses_gives_straight_walls(tmp_path):
    path, seconds = tmp_path / "a.mcap", np.linspace(0, TURN_S, 500)
    with RecordingWriter(path, Rig({}, {"roof": PLACED}), "yard") as writer:
        for time_ns, map_from_ego in poses(50):
            writer.pose(EgoPose(time_ns, map_from_ego))
        writer.lidar("roof", START_NS, sweep(seconds).payload)
    reader = open_recording(path)
    motion = EgoMotion.of((pose.time_ns, pose.map_from_ego) for pose in reader.poses())
    ((_, reading),) = reader.readings()
    for at_s in (0.0, 0.1):
        merged = merge_sweeps([reading], PLACED, START_NS + round(at_s * 1e9), motion)
        assert (bend(merged.points[:, :3], at_s) < 1e-3, merged.uncompensated) == (True, 0)
        still = merge_sweeps([reading], PLACED, START_NS + round(at_s * 1e9))
        assert bend(still.points[:, :3], at_s) > 0.5


def test_a_sweep_made_still_in_its_own_frame_is_what_a_recordings_is():
    reading, motion = sweep(np.linspace(0, TURN_S, 500)), EgoMotion.of(poses(50))
    still = still_sweep(reading.payload, START_NS, PLACED, motion)
    merged = merge_sweeps([reading], PLACED, START_NS, motion)
    assert np.allclose(apply(PLACED, still.points[:, :3]), merged.points[:, :3], atol=1e-4)
    assert bend(apply(PLACED, still.points[:, :3]), 0.0) < 1e-3
    assert (still.points[:, 3] == 1).all()
    assert still.offsets_s is None
    assert still_sweep(still, START_NS, PLACED, EgoMotion()) is still
    assert still_sweep(reading.payload, START_NS, PLACED, EgoMotion.of(poses(50, until_s=0.08))) is None


def test_a_sweep_that_goes_on_after_the_last_place_is_moved_as_a_whole():
    reading = sweep(np.linspace(0, TURN_S, 50))
    motion = EgoMotion.of(poses(50, until_s=0.08))
    merged = merge_sweeps([reading], PLACED, START_NS + 60_000_000, motion)
    whole = Reading("roof", Modality.LIDAR, START_NS, PointCloud(reading.payload.points))
    expected = merge_sweeps([whole], PLACED, START_NS + 60_000_000, motion)
    assert np.array_equal(merged.points[:, :4], expected.points[:, :4])
    assert merged.uncompensated == 0


def test_points_of_one_time_are_moved_as_the_sweep_is():
    points, times = np.arange(12.0).reshape(4, 3), np.full(4, START_NS + 30_000_000)
    motion = EgoMotion.of(poses(50))
    expected = apply(motion.moved(START_NS, START_NS + 30_000_000), points)
    assert np.allclose(deskewed(points, times, START_NS, motion), expected, atol=1e-9)
    alone = EgoMotion.of([(START_NS, place(0))])
    assert np.allclose(deskewed(points, np.full(4, START_NS), START_NS, alone), points)
    assert deskewed(points, times, START_NS, alone) is None
    assert deskewed(points, times, START_NS, EgoMotion()) is None
    assert deskewed(points[:0], times[:0], START_NS, motion).shape == (0, 3)
