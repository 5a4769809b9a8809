import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.codec import CELLS_PER_LEVEL, decode_maps, encode_maps, item_gate
from fusion.codec.synthetic import synthetic_maps, synthetic_profile
from fusion.types import Box2D

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


@pytest.mark.parametrize("seed", range(3))
def test_the_same_item_gives_the_same_gate(seed):
    scores = [np.random.default_rng(seed).random(s.shape, np.float32).round(1) for s in empty_scores()]
    first = item_gate(PROFILE, Box2D(10, 10, 600, 380), scores)[1]
    again = item_gate(PROFILE, Box2D(10, 10, 600, 380), scores)[1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
