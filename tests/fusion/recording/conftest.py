"""Recordings the tests of this room share."""

import numpy as np
import pytest

from fusion.geometry import apply, rotation_z
from fusion.recording.native.synthetic import write_synthetic


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A recording of a few chunks (noise compresses badly), with every sensor and truth: 12 moments. Read only."""
    path = tmp_path_factory.mktemp("recordings") / "small.mcap"
    write_synthetic(path, frames=12, width=96, height=64, points=16_000)
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A recording of one chunk, small enough to damage at every byte: 2 moments. Read only."""
    path = tmp_path_factory.mktemp("recordings") / "tiny.mcap"
    write_synthetic(path, frames=2, width=32, height=32, points=32)
    return path


@pytest.fixture(scope="session")
def held():
    """A function: which of `points` (N, 3) lie in a `Box3D` of the same frame, (N,) bool."""

    def check(points, box):
        local = (points - [box.x, box.y, box.z]) @ rotation_z(box.yaw)
        return (np.abs(local) <= np.array([box.length, box.width, box.height]) / 2).all(axis=1)

    return check


@pytest.fixture(scope="session")
def sweeps():
    """A function: the points (N, 3) in the ego frame of each sweep of a reader's only LiDAR, by time."""

    def collect(reader):
        rig = reader.info().rig
        return {
            r.capture_time_ns: apply(rig.ego_from_lidar[r.sensor], r.payload.points[:, :3].astype(float))
            for _, r in reader.readings()
            if r.sensor in rig.ego_from_lidar
        }

    return collect
