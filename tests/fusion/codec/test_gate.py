import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fusion.codec import CELLS_PER_LEVEL, MAX_SIDE, MAX_WINDOW_CELLS, decode_maps, encode_maps, item_gate
from fusion.codec.synthetic import synthetic_maps, synthetic_profile
from fusion.types import Box2D, CellWindow, DeviceOpinion, Evidence, ItemId, SampleId
from fusion.wire.convert import parse_evidence, serialize_evidence

PROFILE = synthetic_profile()


def empty_scores():
    return [np.zeros(PROFILE.map_size(i), np.float32) for i in range(3)]


def test_the_box_is_open_and_the_margin_only_where_the_detector_saw_something():
    box = Box2D(160, 160, 240, 240)
    windows, gates = item_gate(PROFILE, box, empty_scores())
    assert (windows[0].x, windows[0].y, windows[0].width, windows[0].height) == (18, 18, 14, 14)
    assert np.count_nonzero(gates[0]) == 100
    assert gates[0][2:12, 2:12].all()
    scores = empty_scores()
    scores[0][18, 32] = 0.5  # one cell right of the window's top right corner
    _, seen = item_gate(PROFILE, box, scores)
    assert np.argwhere(seen[0] & ~gates[0]).tolist() == [[0, 13], [1, 13]]
    _, everything = item_gate(PROFILE, box, None)
    assert everything[0].all()


def test_a_tiny_box_takes_its_surroundings_along():
    windows, gates = item_gate(PROFILE, Box2D(300, 200, 304, 204), empty_scores())
    assert np.count_nonzero(gates[0]) >= 36
    assert all(gate.any() for gate in gates)
    assert windows[0].x * 8 <= 302 - 24


def test_a_large_object_keeps_its_best_cells():
    scores = empty_scores()
    scores[0][10:14, 50:54] = 0.9
    windows, gates = item_gate(PROFILE, Box2D(0, 0, 640, 384), scores)
    assert np.count_nonzero(gates[0]) == CELLS_PER_LEVEL
    assert gates[0][9:15, 49:55].all()
    assert np.count_nonzero(gates[0][20:28, 36:44]) == 64  # the rest is the middle
    assert gates[2].all()
    assert windows[0].cells == 80 * 48


def test_a_box_outside_the_image_opens_nothing():
    windows, gates = item_gate(PROFILE, Box2D(2000, 2000, 2100, 2100), empty_scores())
    assert not any(window.cells for window in windows)
    assert not any(gate.any() for gate in gates)


coordinate = st.floats(-200, 900, allow_nan=False)


@given(coordinate, coordinate, coordinate, coordinate, st.floats(0, 1), st.booleans())
@settings(max_examples=100, deadline=None)
def test_every_gate_fits_the_codec(x1, y1, x2, y2, margin, with_scores):
    box = Box2D(min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
    scores = [np.random.default_rng(1).random(s.shape, np.float32) for s in empty_scores()] if with_scores else None
    windows, gates = item_gate(PROFILE, box, scores, margin)
    assert all(np.count_nonzero(gate) <= CELLS_PER_LEVEL for gate in gates)
    gated = encode_maps(PROFILE, MAPS, windows, gates)
    assert len(decode_maps(PROFILE, gated)) == 3


MAPS = synthetic_maps(PROFILE)


def test_an_item_that_fills_a_large_picture_has_windows_around_its_open_cells():
    profile = synthetic_profile(image_width=3840, image_height=2176)
    scores = [np.zeros(profile.map_size(i), np.float32) for i in range(3)]
    scores[0][100:108, 200:230] = 0.9
    windows, gates = item_gate(profile, Box2D(0, 0, 3840, 2176), scores)
    assert [np.count_nonzero(gate) for gate in gates] == [CELLS_PER_LEVEL] * 3
    assert windows[0] == CellWindow(199, 99, 32, 10), "the spot and what is next to it"
    assert gates[0].all()
    assert all((gate.shape == (window.height, window.width)) for window, gate in zip(windows, gates, strict=True))


def test_open_cells_too_far_apart_are_left_out_and_nearer_ones_open_instead():
    profile = synthetic_profile(image_width=3840, image_height=2176)
    scores = [np.zeros(profile.map_size(i), np.float32) for i in range(3)]
    scores[0][:4, :4], scores[0][-14:, -14:] = 0.9, 0.5
    windows, gates = item_gate(profile, Box2D(0, 0, 3840, 2176), scores)
    assert MAX_WINDOW_CELLS // 3 < sum(window.cells for window in windows) <= MAX_WINDOW_CELLS
    assert np.count_nonzero(gates[0]) == CELLS_PER_LEVEL
    last = windows[0]
    assert (last.x + last.width, last.y + last.height) == (480, 272), "where most of them are"
    assert gates[0][-14:, -14:].all()


side = st.integers(1, MAX_SIDE // 32).map(lambda count: 32 * count)
share = st.floats(-0.2, 1.2)


@given(side, side, share, share, share, share, st.sampled_from(["none", "nothing", "corners", "everywhere"]))
@example(2560, 1440, 0.15, 0.85, 0.15, 0.85, "nothing")
@example(MAX_SIDE, MAX_SIDE, 0.0, 1.0, 0.0, 1.0, "corners")
@example(MAX_SIDE, MAX_SIDE, 0.0, 1.0, 0.0, 1.0, "everywhere")
@example(MAX_SIDE, 32, 0.0, 1.0, 0.0, 1.0, "corners")
@settings(max_examples=40, deadline=None)
def test_any_box_of_any_input_makes_evidence_that_the_wire_takes(width, height, x1, x2, y1, y2, seen):
    profile = synthetic_profile(image_width=width, image_height=height, channels=(2, 3, 2))
    sizes = [profile.map_size(i) for i in range(3)]
    scores = None if seen == "none" else [np.zeros(size, np.float32) for size in sizes]
    for level in scores or ():
        if seen == "corners":
            level[[0, 0, -1, -1], [0, -1, 0, -1]] = 0.9
        if seen == "everywhere":
            level[:] = np.random.default_rng(2).random(level.shape, np.float32)
    (left, right), (top, bottom) = sorted([x1 * width, x2 * width]), sorted([y1 * height, y2 * height])
    box = Box2D(left, top, right, bottom)
    windows, gates = item_gate(profile, box, scores)
    assert sum(window.cells for window in windows) <= MAX_WINDOW_CELLS
    maps = [np.broadcast_to(np.int8(1), (k, *size)) for k, size in zip((2, 3, 2), sizes, strict=True)]
    evidence = Evidence(
        item=ItemId(SampleId("cart-1", "e" * 16, 1), 1),
        task="yard",
        time_ns=1,
        track=1,
        profile=profile.sha256,
        models={},
        box=box,
        image_width=width,
        image_height=height,
        class_scores={},
        opinion=DeviceOpinion(),
        reasons=(),
        value=0.0,
        ages_ns={},
        maps=encode_maps(profile, maps, windows, gates),
    )
    taken = parse_evidence(serialize_evidence(evidence)).maps
    decoded = decode_maps(profile, taken)
    assert [np.count_nonzero(level[0]) for level in decoded] == [np.count_nonzero(gate) for gate in gates]


@pytest.mark.parametrize("seed", range(3))
def test_the_same_item_gives_the_same_gate(seed):
    scores = [np.random.default_rng(seed).random(s.shape, np.float32).round(1) for s in empty_scores()]
    first = item_gate(PROFILE, Box2D(10, 10, 600, 380), scores)[1]
    again = item_gate(PROFILE, Box2D(10, 10, 600, 380), scores)[1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
