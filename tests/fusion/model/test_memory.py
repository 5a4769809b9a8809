"""What the queries read: several sensors a modality, maps at twice their stride, and who was there."""

import torch

from fusion.encoders.tokens import Tokens
from fusion.model.memory import Memory, pooled

WIDTH = 8


def _tokens(batch: int, sensors: int, share: int, available: torch.Tensor, age: torch.Tensor) -> Tokens:
    drawn = torch.rand(batch * sensors, share, WIDTH, generator=torch.Generator().manual_seed(2))
    return Tokens.of_sensors(drawn, drawn + 1, available, age)


def test_pooling_takes_means_of_neighbours_in_each_map() -> None:
    tokens = torch.arange(32.0).view(1, 32, 1)
    assert pooled(tokens, (4, 4), 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5, 18.5, 20.5, 26.5, 28.5]


def test_one_camera_of_three_is_left_out_and_told() -> None:
    memory = Memory({"camera": 3, "lidar": 1}, {"camera": (2, 4)}, WIDTH)
    available = torch.tensor([[True, False, True]])
    camera = _tokens(1, 3, 8, available, torch.tensor([[0.1, 9.0, 0.3]]))
    keys, values, mask = memory({"camera": camera.cleaned()}, 1)
    assert mask is None
    assert keys.shape == values.shape == (1, 2 + 2 * 2, WIDTH)
    present, age = memory.provenance({"camera": camera.cleaned()}, 1)
    assert present.tolist() == [[True, False, True, False]]
    torch.testing.assert_close(age, torch.tensor([[0.1, 0.0, 0.3, 0.0]]))


def test_samples_that_lack_different_sensors_are_masked() -> None:
    memory = Memory({"camera": 2}, {}, WIDTH)
    available = torch.tensor([[True, False], [False, True]])
    _, _, mask = memory({"camera": _tokens(2, 2, 3, available, torch.zeros(2, 2)).cleaned()}, 2)
    assert mask is not None
    assert mask[:, 0, 0].tolist() == [[True] * 4 + [False] * 3, [True] + [False] * 3 + [True] * 3]


def test_nothing_at_all_leaves_the_null_tokens() -> None:
    memory = Memory({"camera": 2, "speech": 1}, {}, WIDTH)
    keys, _, mask = memory({}, 4)
    assert keys.shape == (4, 2, WIDTH)
    assert mask is None
