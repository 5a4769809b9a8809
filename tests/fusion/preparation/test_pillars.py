"""Points on the grid, thinned evenly."""

import numpy as np

from fusion.preparation.pillars import PillarGrid, pillar_input


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
