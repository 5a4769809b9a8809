"""A recording looked up by time."""

import numpy as np

from fusion.geometry import apply
from replay.results.frames import NEAR_NS, FrameIndex


def test_rising_times_read_the_recording_once(draw, drawn_run):
    recording = draw.recording(10)
    index = FrameIndex(recording, drawn_run.task)
    for step in (0, 0, 3, 4, 9):
        view = index(recording.time(step))
        assert np.array_equal(view.image.pixels, recording.image(step).pixels)
        assert view.image.encoded == recording.image(step).encoded
        assert view.truth.time_ns == recording.time(step)
    assert recording.calls == 1


def test_a_step_back_starts_over_and_finds_the_same(draw, drawn_run):
    recording = draw.recording(8)
    index = FrameIndex(recording, drawn_run.task)
    index(recording.time(6))
    view = index(recording.time(1))
    assert recording.calls == 2
    assert np.array_equal(view.image.pixels, recording.image(1).pixels)


def test_points_come_in_the_ego_frame(draw, drawn_run):
    recording = draw.recording(3)
    view = FrameIndex(recording, drawn_run.task)(recording.time(1))
    raw = recording.points(1).points
    assert np.allclose(view.points[:, :3], apply(recording.rig.ego_from_lidar["roof"], raw[:, :3]), atol=1e-5)
    assert np.array_equal(view.points[:, 3], raw[:, 3])


def test_far_from_any_reading_there_is_nothing(draw, drawn_run):
    recording = draw.recording(2)
    index = FrameIndex(recording, drawn_run.task)
    assert index(recording.time(0) - 2 * NEAR_NS) is None
    assert index(recording.time(0) + NEAR_NS // 3) is not None
    assert index(recording.time(1) + 3 * NEAR_NS) is None


def test_a_camera_alone_is_enough(draw, drawn_run):
    recording = draw.recording(3, lidar=False, speech=False)
    view = FrameIndex(recording, drawn_run.task)(recording.time(2))
    assert view.points is None
    assert view.transcript == ""
    assert view.image is not None


def test_only_a_moment_is_held(draw, drawn_run):
    recording = draw.recording(40, lidar=False)
    index = FrameIndex(recording, drawn_run.task)
    for step in range(40):
        index(recording.time(step))
        held = sum(len(track.recent) for track in index._streams.values())
        assert held <= 3
