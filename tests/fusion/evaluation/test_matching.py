"""Matching in waves is matching one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.evaluation.matching import match_in_order, pairs_within_groups


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pairs=st.integers(0, 80), members=st.integers(1, 12))
def test_waves_are_the_plain_loop(seed: int, pairs: int, members: int) -> None:
    rng = np.random.default_rng(seed)
    left, right = rng.integers(0, members, pairs), rng.integers(0, members, pairs)
    allowed = rng.random((pairs, 3)) < 0.7
    expected = np.zeros_like(allowed)
    for run in range(3):
        taken: set[tuple[str, int]] = set()
        for pair in range(pairs):
            ends = {("left", int(left[pair])), ("right", int(right[pair]))}
            if allowed[pair, run] and not ends & taken:
                taken |= ends
                expected[pair, run] = True
    np.testing.assert_array_equal(match_in_order(left, right, allowed), expected)


@settings(max_examples=100, deadline=None)
@given(left=st.lists(st.integers(0, 6), max_size=12), right=st.lists(st.integers(0, 6), max_size=12))
def test_pairs_are_all_pairs_of_a_group(left: list[int], right: list[int]) -> None:
    right = sorted(right)
    expected = [(i, j) for i, a in enumerate(left) for j, b in enumerate(right) if a == b]
    one, two = pairs_within_groups(np.array(left, np.int64), np.array(right, np.int64))
    assert list(zip(one.tolist(), two.tolist(), strict=True)) == expected


def test_a_long_chain_is_worked_off() -> None:
    """Each pair waits for the one before it: as many waves as pairs."""
    links = np.arange(2000)
    left, right = (links + 1) // 2, links // 2
    taken = match_in_order(left, right, np.ones((2000, 1), np.bool_))[:, 0]
    assert taken.tolist() == [link % 2 == 0 for link in range(2000)]
