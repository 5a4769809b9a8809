"""Camera tokens depend on what the codes stand for, not on how they are scaled."""

import torch

from fusion.encoders.camera import CameraEncoder
from fusion.encoders.position import RayPosition


def _encoder(step: float) -> CameraEncoder:
    torch.manual_seed(3)
    return CameraEncoder(([step] * 4, [step] * 4), (2.0, 2.0), 16, RayPosition(16, 16)).eval()


def test_one_token_a_cell_of_stride_16() -> None:
    tokens, position = _encoder(0.5)(
        torch.zeros(2, 4, 4, 6, dtype=torch.int8), torch.zeros(2, 4, 2, 3, dtype=torch.int8), torch.zeros(2, 24, 48)
    )
    assert tokens.shape == position.shape == (2, 24, 16)


def test_codes_are_dequantised_with_the_profiles_steps() -> None:
    p4 = torch.randint(-10, 11, (1, 4, 4, 6), dtype=torch.int8)
    p5 = torch.randint(-10, 11, (1, 4, 2, 3), dtype=torch.int8)
    rays = torch.zeros(1, 24, 48)
    coarse, _ = _encoder(1.0)(p4, p5, rays)
    fine, _ = _encoder(0.5)(p4 * 2, p5 * 2, rays)
    torch.testing.assert_close(coarse, fine)
    wrong, _ = _encoder(0.5)(p4, p5, rays)
    assert not torch.allclose(coarse, wrong, atol=1e-3)
