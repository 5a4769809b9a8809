"""What people see of an item beside its picture: which points, how many, and only what was said."""

from dataclasses import replace

import numpy as np
import pytest

from fusion.codec.points import decode_points
from fusion.codec.sound import decode_sound
from fusion.geometry import CAMERA_OPTICAL_FROM_BODY, CameraCalibration, Rig, invert, rigid
from fusion.perception.context import AROUND_M, RANGE_M, around, clip_sound, crop_points, in_view, thin
from fusion.types import (
    AudioChunk,
    Availability,
    Box2D,
    Box3D,
    Image,
    Modality,
    PointCloud,
    Reading,
    Sample,
    SampleId,
    SensorSlot,
)

CAMERA = CameraCalibration.pinhole(640, 384, np.pi / 2, invert(CAMERA_OPTICAL_FROM_BODY))
LIDAR_UP = rigid(np.eye(3), np.array([0.0, 0.0, 1.5]))
BOX = Box3D(10.0, 2.0, 0.5, 2.0, 1.0, 1.0, np.pi / 2)
RIG = Rig({"front": CAMERA}, {"roof": LIDAR_UP})
MIDDLE = Box2D(300, 180, 340, 204)


def sample(points=None, pcm=None, *, rig=RIG, at_ns=9 * 10**9) -> Sample:
    slots = {"front": SensorSlot.absent()}
    if points is not None:
        cloud = np.c_[points, np.zeros(len(points))].astype(np.float32)
        slots["roof"] = SensorSlot(Availability.PRESENT, 0, Reading("roof", Modality.LIDAR, at_ns, PointCloud(cloud)))
    if pcm is not None:
        heard = Reading("mic", Modality.SPEECH, at_ns - 3 * 10**9, AudioChunk(pcm, 16_000))
        slots["mic"] = SensorSlot(Availability.PRESENT, 0, heard)
    return Sample(SampleId("cart-1", "e" * 16, 1), at_ns, slots, rig, 1)


def test_points_around_the_box_in_the_ego_frame_are_kept():
    ego = np.array(
        [[10.0, 2.0, 0.5], [10.0, 2.0 + 1.9, 0.5], [10.0 + 1.4, 2.0, 0.5], [10.0, 2.0 + 2.1, 0.5], [13, 2, 0.5]]
    )
    crop = crop_points(sample(ego - [0, 0, 1.5]), BOX, "front", MIDDLE)
    kept = decode_points(crop)  # the box is turned by a quarter: its length lies along y
    np.testing.assert_allclose(sorted(map(tuple, kept)), sorted(map(tuple, ego[:3])), atol=0.006)


def test_around_turns_with_the_box():
    corners = np.array([[1.0 + AROUND_M - 0.01, 0, 0], [0, 0.5 + AROUND_M + 0.01, 0]])
    assert around(corners, Box3D(0, 0, 0, 2, 1, 1, 0)).tolist() == [True, False]
    assert around(corners[:, [1, 0, 2]], Box3D(0, 0, 0, 2, 1, 1, np.pi / 2)).tolist() == [True, False]
    left_ahead, right_ahead = np.array([1.4, 1.4, 0.0]), np.array([1.4, -1.4, 0.0])  # 2 m away
    assert around(np.array([left_ahead, right_ahead]), Box3D(0, 0, 0, 2, 1, 1, np.pi / 4)).tolist() == [True, False]


def test_without_a_box_or_anything_in_it_the_view_of_the_item_is_kept():
    seen, beside, behind, far = [20.0, 0.0, 0.0], [20.0, 8.0, 0.0], [-20.0, 0.0, 0.0], [RANGE_M + 1, 0.0, 0.0]
    whole = sample(np.array([seen, beside, behind, far]) - [0, 0, 1.5])
    for box in (None, BOX):
        np.testing.assert_allclose(decode_points(crop_points(whole, box, "front", MIDDLE)), [seen], atol=0.006)
    assert in_view(np.array([seen, beside, behind, far]), CAMERA, MIDDLE).tolist() == [True, False, False, False]


def test_a_picture_of_another_size_than_the_calibrations_has_no_view():
    halved = Reading("front", Modality.CAMERA, 9 * 10**9, Image(np.zeros((192, 320, 3), np.uint8)))
    seen = sample(np.array([[20.0, 0.0, -1.5], [10.0, 2.0, -1.0]]))
    mixed = replace(seen, slots={**seen.slots, "front": SensorSlot(Availability.PRESENT, 0, halved)})
    assert crop_points(seen, None, "front", MIDDLE).count == 1
    assert crop_points(mixed, None, "front", MIDDLE) is None
    assert crop_points(mixed, BOX, "front", MIDDLE).count == 1, "points around a 3-D box need no picture"


@pytest.mark.parametrize(
    "nothing",
    [sample(), sample(np.zeros((3, 3)), rig=None), sample(np.full((4, 3), np.nan)), sample(np.full((4, 3), -9))],
)
def test_without_points_there_is_no_crop(nothing):
    assert crop_points(nothing, BOX, "front", MIDDLE) is None


def test_thinning_is_bounded_deterministic_and_keeps_the_nearest():
    points = np.random.default_rng(0).uniform(-2, 2, (5000, 3))
    focus = points[17]
    few = thin(points, focus, 300)
    assert 100 < len(few) <= 300
    np.testing.assert_array_equal(few, thin(points[::-1], focus, 300))
    np.testing.assert_array_equal(few[0], focus)
    np.testing.assert_array_equal(np.sort(thin(points, focus, 5000), 0), np.sort(points, 0))
    assert crop_points(sample(points + np.array([10, 2, -1])), BOX, "front", MIDDLE, 300).count <= 300


def test_sound_is_kept_where_somebody_speaks_and_only_its_end():
    rng = np.random.default_rng(1)
    quiet = rng.normal(0, 20, 48_000)
    spoken = quiet.copy()
    spoken[40_000:46_000] += 8000 * np.sin(np.arange(6000) * 2 * np.pi * 700 / 16_000)
    clip = clip_sound(sample(pcm=spoken.astype(np.int16)), 1.0)
    first = (clip.start_ns - 6 * 10**9) * 16_000 // 10**9
    assert 40_000 - 4_400 <= first <= 40_000 - 3_600  # a quarter of a second before, in frames of 20 ms
    heard = decode_sound(clip)
    assert first + len(heard) == 48_000
    assert np.abs(heard.astype(int) - spoken[first:].astype(np.int16)).max() < 400
    assert len(decode_sound(clip_sound(sample(pcm=spoken.astype(np.int16)), 0.5))) == 8_000
    assert clip_sound(sample(pcm=quiet.astype(np.int16)), 1.0) is None
    assert clip_sound(sample(pcm=spoken[:30_000].astype(np.int16)), 1.0) is None
    assert clip_sound(sample(), 1.0) is None
