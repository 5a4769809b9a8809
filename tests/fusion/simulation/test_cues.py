"""That each sensor is sometimes the only one that can tell: one drum, rendered with and without its fault."""

from dataclasses import replace

import cv2
import numpy as np

from fusion.simulation import Split
from fusion.simulation.camera import render
from fusion.simulation.draws import Draws
from fusion.simulation.drum import Dent, drum_mesh, leak
from fusion.simulation.ground import draw_ground
from fusion.simulation.lidar import sweep
from fusion.simulation.light import draw_lighting
from fusion.simulation.rig import draw_rig
from fusion.simulation.stock import make
from fusion.simulation.world import World


def light(mode):
    return next(
        found
        for seed in range(99)
        if not (found := draw_lighting(Draws(seed, Split.TRAIN))).rain and found.mode == mode
    )


def sound_drum():
    drum = make(Draws(2, Split.TRAIN), "drum", "ok")
    drum.paint = replace(drum.paint, marks=())
    drum.mesh = drum_mesh(drum.paint.radius, 0.9, 0.012, None)
    return drum


def sense(drum, lighting):
    """The drum 5 m ahead: the picture without its noise, where the drum is in it, and the points on the drum."""
    drum.x = 5.0
    rig = draw_rig(Draws(0, Split.TRAIN))
    ground = draw_ground(Draws(1, Split.TRAIN), wet=False)
    world = World([drum])
    frame = render(world, ground, lighting, rig.cameras["front"], np.eye(4), np.random.default_rng(0))
    points = sweep(world, ground, lighting, rig.ego_from_lidar["roof"], np.random.default_rng(0)).points
    near = (np.hypot(points[:, 0] - 4.9, points[:, 1]) < 0.45) & (points[:, 2] > -1.45) & (points[:, 2] < -0.75)
    return cv2.blur(frame.pixels.astype(np.float32), (3, 3)), frame.owners == 0, points[near]


def test_a_stain_shows_in_colour_only():
    drum, lighting = sound_drum(), light("day")
    picture, place, points = sense(drum, lighting)
    drum.paint = replace(drum.paint, marks=(leak(Draws(3, Split.TRAIN), 0.9, np.float32([0.02, 0.014, 0.008])),))
    stained, _, same = sense(drum, lighting)
    assert np.array_equal(points, same)
    assert (np.abs(stained - picture).max(axis=2)[place] > 25).mean() > 0.08


def dented_share(mode):
    """How much of a drum's picture changes by more than its noise when it is dented, and how much deeper it gets."""
    drum, lighting = sound_drum(), light(mode)
    picture, place, points = sense(drum, lighting)
    drum.mesh = drum_mesh(drum.paint.radius, 0.9, 0.012, Dent(np.pi, 0.45, 0.3, 0.12))
    dented, still, deeper = sense(drum, lighting)
    change = np.abs(dented - picture).max(axis=2)[place & still]
    noise = 255 * 0.042 * lighting.grain / 3
    return (change > 6 * max(noise, 1.0)).mean(), np.percentile(deeper[:, 0], 60) - np.percentile(points[:, 0], 60)


def test_a_dent_shows_in_depth_and_at_night_in_nothing_else():
    by_day, deeper_by_day = dented_share("day")
    by_night, deeper_by_night = dented_share("night")
    assert min(deeper_by_day, deeper_by_night) > 0.02
    assert by_day > 0.25
    assert by_night < 0.05
