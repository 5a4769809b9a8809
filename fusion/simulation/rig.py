"""Where the cart's sensors sit, and how they look."""

from __future__ import annotations

import numpy as np

from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, Rig, invert, rigid, rotation_y
from fusion.simulation.draws import Draws

WIDTH, HEIGHT = 640, 384
RINGS, COLUMNS = 32, 512
LIDAR_UP_RAD, LIDAR_DOWN_RAD = np.deg2rad(5.0), np.deg2rad(-25.0)
LIDAR_HALF_AZIMUTH_RAD = np.deg2rad(60.0)
LIDAR_RANGE_M = 40.0
SAMPLE_RATE_HZ = 16000
_FIELD_OF_VIEW_RAD = np.deg2rad(80.0)


def draw_rig(draws: Draws) -> Rig:
    """Camera `front` and LiDAR `roof` on the cart; each cart is mounted a little differently."""
    pitch = np.deg2rad(6.0 + draws.uniform(-0.6, 0.6))
    mount = rigid(rotation_y(float(pitch)), np.array([0.25, 0.0, 1.3 + draws.uniform(-0.03, 0.03)]))
    ego_from_camera = mount @ invert(CAMERA_OPTICAL_FROM_BODY)
    camera = CameraCalibration.pinhole(WIDTH, HEIGHT, float(_FIELD_OF_VIEW_RAD), ego_from_camera)
    lidar = rigid(np.eye(3), np.array([0.1, 0.0, 1.6 + draws.uniform(-0.03, 0.03)]))
    return Rig({"front": camera}, {"roof": lidar})
