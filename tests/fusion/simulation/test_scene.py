from functools import cache

import numpy as np
import pytest

from fusion.geometry import apply
from fusion.simulation import Split, action_for, simulate_scene
from fusion.simulation.observe import clearly_seen

SEEDS = range(700, 706)


@cache
def scene(seed, split=Split.TRAIN):
    return simulate_scene(seed, split)


def inside(sample, box, margin):
    points = apply(sample.rig.ego_from_lidar["roof"], sample.cloud.points[:, :3].astype(np.float64))
    offset = points - [box.x, box.y, box.z]
    c, s = np.cos(box.yaw), np.sin(box.yaw)
    along, across = offset[:, 0] * c + offset[:, 1] * s, offset[:, 1] * c - offset[:, 0] * s
    half = np.array([box.length, box.width, box.height]) / 2 + margin
    return (abs(along) < half[0]) & (abs(across) < half[1]) & (abs(offset[:, 2]) < half[2])


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    again = simulate_scene(700, Split.TRAIN)
    assert again.image.pixels.tobytes() == scene(700).image.pixels.tobytes()
    assert again.cloud.points.tobytes() == scene(700).cloud.points.tobytes()
    assert again.audio.pcm.tobytes() == scene(700).audio.pcm.tobytes()
    assert again.truth == scene(700).truth
    assert scene(700, Split.VAL).image.pixels.tobytes() != scene(700).image.pixels.tobytes()
    assert scene(701).image.pixels.tobytes() != scene(700).image.pixels.tobytes()


@pytest.mark.parametrize("seed", SEEDS)
def test_shapes_and_steps(seed):
    sample = scene(seed)
    assert sample.image.pixels.shape == (384, 640, 3)
    assert sample.image.pixels.dtype == np.uint8
    assert sample.audio.pcm.shape == (48000,)
    assert sample.audio.pcm.dtype == np.int16
    points = sample.cloud.points
    assert points.dtype == np.float32
    assert points.shape[1] == 4
    assert 8000 < len(points) <= 32 * 512
    assert np.array_equal(points[:, :3] * 256, np.round(points[:, :3] * 256))
    assert np.array_equal(points[:, 3] * 64, np.round(points[:, 3] * 64))
    assert 0 <= points[:, 3].min() <= points[:, 3].max() <= 1
    assert np.linalg.norm(points[:, :3], axis=1).max() < 40.2


@pytest.mark.parametrize("seed", SEEDS)
def test_points_lie_where_the_truth_says(seed):
    sample = scene(seed)
    for thing in sample.truth.objects:
        if thing.visibility > 0.8 and clearly_seen(thing) and thing.box3d.x < 10:
            assert inside(sample, thing.box3d, 0.06).sum() >= 8


@pytest.mark.parametrize("seed", SEEDS)
def test_flat_boxes_agree_with_solid_ones(seed):
    sample = scene(seed)
    camera = sample.rig.cameras["front"]
    for thing in sample.truth.objects:
        if thing.box2d is None or thing.visibility < 0.95:
            continue
        box = thing.box3d
        corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
        corners = corners * [box.length, box.width, box.height]
        c, s = np.cos(box.yaw), np.sin(box.yaw)
        ego = corners @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + [box.x, box.y, box.z]
        pixels, _ = camera.project(ego)
        low, high = pixels.min(0), pixels.max(0)
        assert thing.box2d.x1 >= low[0] - 2
        assert thing.box2d.y1 >= low[1] - 2
        assert thing.box2d.x2 <= high[0] + 2
        assert thing.box2d.y2 <= high[1] + 2
        assert thing.box2d.area > 0.35 * (high - low).prod()


def test_truth_is_whole():
    samples = [scene(seed) for seed in SEEDS]
    objects = [thing for sample in samples for thing in sample.truth.objects]
    assert len(objects) > 3 * len(samples)
    for sample in samples:
        asked = [thing for thing in sample.truth.objects if thing.asked_for]
        assert len(asked) == (1 if sample.truth.intent == "inspect" else 0)
        assert all(clearly_seen(thing) for thing in asked)
        assert len({thing.track for thing in sample.truth.objects}) == len(sample.truth.objects)
        assert set(sample.notes["cue"]) == {str(thing.track) for thing in sample.truth.objects}
    for thing in objects:
        assert thing.action == action_for(thing.label, thing.condition, thing.asked_for)
        assert 0 <= thing.visibility <= 1
        assert (thing.box2d is None) == (thing.visibility == 0)


def test_obstructing_means_inside_the_lane():
    for seed in SEEDS:
        sample = scene(seed)
        for thing in sample.truth.objects:
            if thing.condition == "obstructing":
                assert abs(thing.box3d.y) < sample.notes["lane_width_m"] / 2 + 1.1 + 0.18 * thing.box3d.x
