"""Of all installed readers exactly one claims a recording, and none fails on what it does not know."""

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from fusion.recording import base

SHARED = Path(__file__).parents[3] / "../shared/data"


@pytest.mark.parametrize(
    ("place", "reader"),
    [
        ("kitti_raw/2011_09_26/2011_09_26_drive_0052_sync", "kitti-raw"),
        ("kitti_object", "kitti-object"),
        ("kitti_object/training", "kitti-object"),
        ("semantickitti", "semantickitti"),
        ("semantickitti/sequences/00", "semantickitti"),
        ("nuscenes_keyframe", "nuscenes"),
        ("coco", "coco"),
        ("deeppcb", "image-folder"),
        ("video/car-detection.mp4", "video"),
        ("librispeech/i_tell_you.wav", "audio"),
        ("librispeech/2412-153948-0000.flac", "audio"),
        ("kitti_raw/2011_09_26", None),
        ("kitti_object/training/velodyne/000000.bin", None),
        ("no such folder", None),
    ],
)
def test_one_reader_claims_it(place, reader):
    if not SHARED.exists():
        pytest.skip(f"{SHARED} is not here")
    claims = [point.name for point in entry_points(group=base.GROUP) if point.load().can_read(SHARED / place)]
    assert claims == ([reader] if reader else [])
