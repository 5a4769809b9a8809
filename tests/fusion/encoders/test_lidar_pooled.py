"""Pillars pooled by the caller give what scattered points give, and graphs of both say what torch says."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fusion.encoders.lidar import HostPooledLidar, LidarEncoder
from fusion.encoders.position import PlanePosition
from fusion.preparation.pillars import PillarGrid, pooled_pillars

GRID = PillarGrid(x=-1.0, y=-4.0, cell=0.7, rows=8, columns=12, stride=4)
TRASH = GRID.rows * GRID.columns


def _encoder(*, sweeps: bool = False) -> LidarEncoder:
    torch.manual_seed(3)
    return LidarEncoder(GRID, 16, PlanePosition(16, reach=24.0), sweeps=sweeps).eval()


ENCODER = _encoder(sweeps=True)


def _tensors(sweep: np.ndarray, pillars: int, points: int) -> list[torch.Tensor]:
    return [torch.from_numpy(x) for x in pooled_pillars(sweep, GRID, pillars, points)[:3]]


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 60), st.just(5)), elements=st.floats(-6, 8, width=32)))
def test_pooling_by_the_caller_changes_nothing(sweep: np.ndarray) -> None:
    pooled = pooled_pillars(sweep, GRID, TRASH, 60)
    assert pooled.dropped == 0
    inputs = [torch.from_numpy(x) for x in pooled[:3]]
    with torch.inference_mode():
        expected = ENCODER(torch.from_numpy(sweep)[None], torch.ones(1, len(sweep), dtype=torch.bool))
        found = HostPooledLidar(ENCODER)(*inputs)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_padding_of_a_pillar_is_not_read() -> None:
    sweep = np.random.default_rng(1).uniform(-1, 4, (50, 4)).astype(np.float32)
    encoder = HostPooledLidar(_encoder())
    points, count, cell = _tensors(sweep, TRASH, 8)
    clean, _ = encoder(points, count, cell)
    points[torch.arange(8) >= count[..., None]] = float("nan")
    dirty, _ = encoder(points, count, cell)
    torch.testing.assert_close(clean, dirty)


def test_graphs_of_both_equal_torch(exported) -> None:
    rng = np.random.default_rng(4)
    clouds = [rng.uniform(-2, 8, (n, 5)).astype(np.float32) for n in (90, 0, 90)]
    names = ("points", "count", "cell")
    cases = [dict(zip(names, _tensors(cloud, TRASH, 90), strict=True)) for cloud in clouds]
    graph, worst = exported(HostPooledLidar(ENCODER), cases[0], cases)
    assert worst <= 1e-4
    scatters = [node for node in graph.graph.node if node.op_type.startswith("Scatter")]
    assert len(scatters) == 1
    assert not [a for node in scatters for a in node.attribute if a.name == "reduction" and a.s != b"none"]

    padded = [np.concatenate([cloud, np.full((90 - len(cloud), 5), np.nan, np.float32)]) for cloud in clouds]
    masked = [
        {"points": torch.from_numpy(table)[None], "valid": (torch.arange(90) < len(cloud))[None]}
        for table, cloud in zip(padded, clouds, strict=True)
    ]
    graph, worst = exported(ENCODER, masked[0], masked)
    assert worst <= 1e-4
    assert [a.s for n in graph.graph.node for a in n.attribute if a.name == "reduction"] == [b"max"]
