"""LiDAR tokens: order does not matter, what is invalid does not matter, places do."""

from dataclasses import replace

import pytest
import torch

from fusion.encoders.lidar import LidarEncoder
from fusion.encoders.position import PlanePosition
from fusion.errors import ConfigError
from fusion.preparation.pillars import PillarGrid

GRID = PillarGrid(x=0.0, y=-4.0, cell=1.0, rows=8, columns=8)


def _encoder() -> LidarEncoder:
    torch.manual_seed(3)
    return LidarEncoder(GRID, 16, PlanePosition(16, reach=24.0)).eval()


def _sweep(count: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, count, 4, generator=generator) * torch.tensor([8.0, 8.0, 2.0, 1.0]) - torch.tensor(
        [0.0, 4.0, 0.0, 0.0]
    )


def test_order_of_points_does_not_matter() -> None:
    encoder, sweep = _encoder(), _sweep()
    there = torch.ones(1, 200, dtype=torch.bool)
    tokens, position = encoder(sweep, there)
    turned, _ = encoder(sweep[:, torch.randperm(200)], there)
    assert tokens.shape == position.shape == (1, 16, 16)
    torch.testing.assert_close(tokens, turned)


def test_invalid_and_distant_points_change_nothing() -> None:
    encoder, sweep = _encoder(), _sweep()
    valid = torch.ones(1, 200, dtype=torch.bool)
    valid[0, 150:] = False
    without, _ = encoder(sweep[:, :150], valid[:, :150])
    broken = sweep.clone()
    broken[0, 150:] = float("nan")
    masked, _ = encoder(broken, valid)
    torch.testing.assert_close(masked, without)
    far = torch.cat([sweep[:, :150], torch.tensor([[[-3.0, 0.0, 1.0, 1.0], [2.0, 9.0, 1.0, 1.0]]])], 1)
    outside, _ = encoder(far, torch.ones(1, 152, dtype=torch.bool))
    torch.testing.assert_close(outside, without)


def test_a_point_changes_the_tokens_near_it() -> None:
    encoder = _encoder()
    empty, _ = encoder(torch.zeros(1, 1, 4), torch.zeros(1, 1, dtype=torch.bool))
    one, _ = encoder(torch.tensor([[[0.5, -3.5, 1.0, 1.0]]]), torch.ones(1, 1, dtype=torch.bool))
    changed = (one - empty).abs().amax(-1)[0].view(4, 4) > 1e-6
    assert changed[0, 0]
    assert not changed[3, 3]


def test_a_coarser_stride_makes_larger_tokens() -> None:
    grid = replace(GRID, stride=4)
    encoder = LidarEncoder(grid, 16, PlanePosition(16, reach=24.0), channels=(8, 12, 20)).eval()
    tokens, position = encoder(_sweep(), torch.ones(1, 200, dtype=torch.bool))
    assert tokens.shape == position.shape == (1, 4, 16)
    assert encoder.places.tolist() == [[[2.0, -2.0], [2.0, 2.0], [6.0, -2.0], [6.0, 2.0]]]
    assert encoder.out.weight.shape == (16, 20, 1, 1)


def test_channels_must_fit_the_stride() -> None:
    with pytest.raises(ConfigError, match=r"2 channel numbers \(8, 12\); a token stride of 8 needs 4"):
        LidarEncoder(replace(GRID, stride=8), 16, PlanePosition(16, reach=24.0), channels=(8, 12))


def test_the_network_of_stride_2_has_the_names_that_bundled_weights_have() -> None:
    parts = {name.split(".")[0] for name in _encoder().state_dict()}
    assert parts == {"point", "first", "shrink", "mix", "out", "norm", "position"}


def test_the_time_of_a_point_is_read() -> None:
    torch.manual_seed(3)
    encoder = LidarEncoder(GRID, 16, PlanePosition(16, reach=24.0), sweeps=True).eval()
    there = torch.ones(1, 200, dtype=torch.bool)
    now = torch.cat([_sweep(), torch.zeros(1, 200, 1)], 2)
    earlier = now.clone()
    earlier[..., 4] = -0.5
    assert not torch.allclose(encoder(now, there)[0], encoder(earlier, there)[0], atol=1e-3)


@pytest.mark.parametrize(
    ("points", "valid"),
    [
        (torch.full((1, 30, 4), float("nan")), torch.zeros(1, 30, dtype=torch.bool)),
        (torch.zeros(1, 0, 4), torch.zeros(1, 0, dtype=torch.bool)),
    ],
    ids=["every point invalid", "no points"],
)
def test_nothing_seen_is_an_empty_canvas(points: torch.Tensor, valid: torch.Tensor) -> None:
    encoder = _encoder()
    tokens, position = encoder(points, valid)
    expected, _ = encoder.tokens(torch.zeros(1, 16, 65))
    torch.testing.assert_close(tokens, expected)
    assert bool(tokens.isfinite().all() and position.isfinite().all())


def test_the_near_border_is_on_the_grid_and_the_far_one_is_not() -> None:
    encoder = _encoder()
    empty, _ = encoder(torch.zeros(1, 0, 4), torch.zeros(1, 0, dtype=torch.bool))
    for place, seen in (((0.0, -4.0), True), ((8.0, 0.0), False), ((0.0, 4.0), False), ((8.0, 4.0), False)):
        tokens, _ = encoder(torch.tensor([[[*place, 1.0, 1.0]]]), torch.ones(1, 1, dtype=torch.bool))
        assert bool(tokens.isfinite().all())
        assert (not torch.allclose(tokens, empty)) == seen
