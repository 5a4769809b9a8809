"""The Pareto front, exact shares and signs, and where names go."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.evaluation.proportion import Proportion, sign_test
from replay.whatif.grid.labels import Rect, Spot, place
from replay.whatif.pareto import dominates, front

COORDINATE = st.one_of(st.integers(0, 4).map(float), st.floats(-1e6, 1e6))
POINTS = st.integers(1, 4).flatmap(lambda n: st.lists(st.tuples(*[COORDINATE] * n), min_size=1, max_size=30))


@given(POINTS)
def test_the_front_is_what_nothing_dominates(points):
    kept = front(points)
    assert kept.any()
    for point, best in zip(points, kept, strict=True):
        assert best == (not any(dominates(other, point) for other in points))


@given(POINTS)
def test_every_beaten_point_is_beaten_by_one_of_the_front(points):
    kept = front(points)
    best = [point for point, one in zip(points, kept, strict=True) if one]
    assert all(one or any(dominates(b, point) for b in best) for point, one in zip(points, kept, strict=True))


def test_equal_points_share_the_front():
    assert front([(1, 2), (1, 2), (2, 1), (2, 2)]).tolist() == [True, True, True, False]


def test_no_points_and_points_that_are_no_numbers():
    assert front([]).tolist() == []
    with pytest.raises(ValueError, match="no place"):
        front([(1.0, math.nan)])


@pytest.mark.parametrize(
    ("part", "of", "low", "high"),  # R: binom.test(part, of)$conf.int
    [(3, 14, 0.04658, 0.50798), (0, 7, 0.0, 0.40962), (7, 7, 0.59038, 1.0), (50, 100, 0.39832, 0.60168)],
)
def test_intervals_of_shares_are_those_of_clopper_and_pearson(part, of, low, high):
    found = Proportion.exact(part, of)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5))


@settings(max_examples=40)
@given(st.integers(1, 200).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_a_share_lies_in_its_interval_and_mirrors(pair):
    part, of = pair
    found, rest = Proportion.exact(part, of), Proportion.exact(of - part, of)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low == pytest.approx(1 - rest.high, abs=1e-9)


@pytest.mark.parametrize(("part", "of"), [(0, 0), (-1, 3), (4, 3)])
def test_what_is_no_share_is_refused(part, of):
    with pytest.raises(ValueError, match="not a share"):
        Proportion.exact(part, of)


@pytest.mark.parametrize(
    ("up", "down", "p"), [(0, 0, 1.0), (3, 0, 0.25), (6, 0, 0.03125), (5, 5, 1.0), (8, 1, 0.0390625)]
)
def test_signs(up, down, p):
    assert sign_test(up, down) == pytest.approx(p)
    assert sign_test(down, up) == pytest.approx(p)


FRAME = Rect(0, 0, 800, 400)
SPOTS = st.lists(
    st.builds(
        Spot, st.floats(30, 770), st.floats(30, 370), st.floats(4, 17), st.text("abc=._", min_size=1, max_size=24)
    ),
    max_size=14,
)


@given(SPOTS)
def test_names_lie_over_nothing(spots):
    line = Rect(100, 200, 700, 200)
    names = [one for one in place(spots, FRAME, [line]) if one]
    dots = [Rect(s.x - s.radius, s.y - s.radius, s.x + s.radius, s.y + s.radius) for s in spots]
    assert all(name.inside(FRAME) for name in names)
    assert not any(name.overlap(dot) for name in names for dot in dots)
    assert not any(name.overlap(line) for name in names)
    assert not any(a.overlap(b) for i, a in enumerate(names) for b in names[:i])


def test_names_of_scattered_points_all_find_a_place():
    spots = [Spot(100 + 200 * (n % 3), 40 + 60 * (n // 3), 4.0 + n, f"variant={n}") for n in range(15)]
    assert all(place(spots, FRAME))
