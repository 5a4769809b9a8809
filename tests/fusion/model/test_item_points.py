"""The point network sees a set, and no point is a zero vector."""

import torch

from fusion.model.item_points import ItemPointEncoder


@torch.inference_mode()
def test_a_set_of_points() -> None:
    torch.manual_seed(1)
    encoder = ItemPointEncoder([2.0] * 6, 16).eval()
    points, valid = torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool)
    whole = encoder(points, valid)
    torch.testing.assert_close(whole, encoder(points[:, torch.randperm(5)], valid))
    padded = torch.cat([points, torch.full((2, 3, 6), torch.nan)], 1)
    mask = torch.cat([valid, torch.zeros(2, 3, dtype=torch.bool)], 1)
    torch.testing.assert_close(whole, encoder(padded, mask))
    assert not encoder(points, torch.zeros_like(valid)).any()
