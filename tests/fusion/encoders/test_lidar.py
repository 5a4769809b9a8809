"""LiDAR tokens: order does not matter, what is invalid does not matter, places do."""

import torch

from fusion.encoders.lidar import LidarEncoder, pooled
from fusion.encoders.position import PlanePosition
from fusion.preparation.pillars import PillarGrid

GRID = PillarGrid(x=0.0, y=-4.0, cell=1.0, rows=8, columns=8)


def _encoder() -> LidarEncoder:
    torch.manual_seed(3)
    return LidarEncoder(GRID, 16, PlanePosition(16)).eval()


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


def test_pooling_takes_means_of_neighbours() -> None:
    tokens = torch.arange(16.0).view(1, 16, 1)
    assert pooled(tokens, (4, 4)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
