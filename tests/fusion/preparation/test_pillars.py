"""Points on the grid, thinned evenly, or sorted into pillars."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fusion.errors import ConfigError
from fusion.preparation.pillars import PillarGrid, pillar_input, pooled_pillars


def test_only_points_on_the_grid_are_kept() -> None:
    grid = PillarGrid()
    sweep = np.array([[1, 0, 0, 0], [-1, 0, 0, 0], [19.9, 11.9, 0, 0], [20.1, 0, 0, 0], [1, -12.1, 0, 0]], np.float32)
    points, valid = pillar_input(sweep, grid, 4)
    assert valid.tolist() == [[True, True, False, False]]
    np.testing.assert_array_equal(points[0, :2], sweep[[0, 2]])


def test_thinning_keeps_the_whole_sweep_in_view() -> None:
    sweep = np.zeros((1000, 4), np.float32)
    sweep[:, 0] = np.linspace(0.1, 19.0, 1000)
    kept = PillarGrid().thinned(sweep, 100)
    assert len(kept) == 100
    assert kept[0, 0] < 0.2
    assert kept[-1, 0] > 18.5


def test_points_of_several_sweeps_keep_their_time() -> None:
    sweep = np.array([[1, 0, 0, 0.5, -0.1], [1, 0, 0, 0.5, 0.0]], np.float32)
    points, _ = pillar_input(sweep, PillarGrid(), 3)
    assert points.shape == (1, 3, 5)
    np.testing.assert_array_equal(points[0, :2], sweep)


@pytest.mark.parametrize(("rows", "columns", "stride"), [(50, 60, 4), (7, 8, 2), (8, 12, 8), (0, 4, 2)])
def test_a_grid_divides_into_tokens(rows: int, columns: int, stride: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"{rows} rows and {columns} columns; both must be multiples of the .* {stride}"
    ):
        PillarGrid(rows=rows, columns=columns, stride=stride)


def test_strides_are_powers_of_two() -> None:
    with pytest.raises(ConfigError, match="stride 3; 2, 4 or 8"):
        PillarGrid(rows=6, columns=6, stride=3)
    assert PillarGrid(rows=16, columns=24, stride=8).tokens == (2, 3)


def test_pillars_hold_their_points_in_the_sweeps_order() -> None:
    grid = PillarGrid(x=0.0, y=0.0, cell=1.0, rows=2, columns=2)
    sweep = np.array([[1.5, 1.5, 1, 0], [0.5, 0.5, 2, 0], [1.5, 1.9, 3, 0], [5, 5, 4, 0]], np.float32)
    pooled = pooled_pillars(sweep, grid, 3, 2)
    assert pooled.cell.tolist() == [[0, 3, 4]]
    assert pooled.counts.tolist() == [[1, 2, 0]]
    assert pooled.points[0, :, :, 2].tolist() == [[2, 0], [1, 3], [0, 0]]
    assert pooled.dropped == 0


def test_a_crowded_pillar_is_thinned_evenly_and_the_emptiest_pillars_go_first() -> None:
    grid = PillarGrid(x=0.0, y=0.0, cell=1.0, rows=2, columns=2)
    crowd = np.zeros((9, 4), np.float32)
    crowd[:, :2], crowd[:, 2] = 1.5, np.arange(9)
    alone = np.array([[0.5, 0.5, 20, 0], [0.5, 1.5, 21, 0], [0.5, 1.5, 22, 0]], np.float32)
    pooled = pooled_pillars(np.concatenate([alone, crowd]), grid, 2, 3)
    assert pooled.cell.tolist() == [[1, 3]]
    assert pooled.points[0, :, :, 2].tolist() == [[21, 22, 0], [0, 3, 6]]
    assert pooled.dropped == 7


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 40), st.just(4)), elements=st.floats(-2, 6, width=32)),
    st.integers(1, 8),
    st.integers(1, 5),
)
def test_every_point_on_the_grid_is_in_its_pillar_or_counted_as_dropped(
    sweep: np.ndarray, pillars: int, points: int
) -> None:
    grid = PillarGrid(x=0.0, y=0.0, cell=1.1, rows=4, columns=4)
    cell = grid.cells(sweep)
    pooled = pooled_pillars(sweep, grid, pillars, points)
    assert pooled.counts.sum() + pooled.dropped == np.count_nonzero(cell < 16)
    used = pooled.cell[0, pooled.counts[0] > 0].tolist()
    assert used == sorted(set(used))
    for table, count, place in zip(pooled.points[0], pooled.counts[0], pooled.cell[0], strict=True):
        own = [row.tobytes() for row in sweep[cell == place]] if count else []
        assert count == min(points, len(own))
        if count == len(own):
            assert [row.tobytes() for row in table[:count]] == own
        assert not table[count:].any()
