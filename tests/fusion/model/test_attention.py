"""Who stands where among its own kind."""

import torch

from fusion.model.attention import RelationBias, standing


def test_the_left_drum_has_none_to_its_left() -> None:
    place = torch.tensor([[[6.0, 2.0, 0.5], [6.0, -2.0, 0.5], [3.0, 0.0, 0.5], [9.0, 6.0, 0.5], [0.0, 0.0, 0.0]]])
    scores = torch.tensor([[[0.9, 0.0], [0.9, 0.0], [0.9, 0.0], [0.0, 0.9], [0.0, 0.0]]])
    left, right, nearer, farther = standing(place, scores)[0].unbind(-1)
    assert left[0] < 0.3
    assert left[2] > 0.7
    assert left[1] > 1.4
    assert right[1] < 0.3
    assert nearer[2] < 0.1
    assert nearer[0] > 0.7
    assert farther[2] > 1.4
    assert float(standing(place, scores)[0, 3].max()) < 0.01


def test_a_bias_a_layer_and_head() -> None:
    biases = RelationBias(heads=2, layers=3)(torch.rand(1, 5, 3), torch.rand(1, 5, 2), torch.ones(1, 5))
    assert [tuple(b.shape) for b in biases] == [(1, 2, 5, 5)] * 3
