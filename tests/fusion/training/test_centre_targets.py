"""Centres are drawn where objects stand, and maps that show them cost least."""

import math

import torch

from fusion.model.centres import BevOutputs
from fusion.preparation.pillars import PillarGrid
from fusion.training.driving.centre_targets import centre_losses, centre_targets

GRID = PillarGrid(x=0.0, y=-8.0, cell=1.0, rows=16, columns=16)
SIZE = (16, 16)


def _batch() -> dict[str, torch.Tensor]:
    box = torch.tensor([[3.75, -2.5, 0.7, math.log(2), 0.0, 0.0, 0.0, 1.0], [99.0, 0, 0, 0, 0, 0, 0, 1], [0.0] * 8])
    return {
        "truth_label": torch.tensor([[1, 0, -1]]),
        "truth_box3d": box[None],
        "truth_velocity": torch.tensor([[[1.0, -2.0], [0.0, 0.0], [0.0, 0.0]]]),
        "truth_has_velocity": torch.tensor([[True, False, False]]),
    }


def _maps(heat: torch.Tensor, box: torch.Tensor, velocity: torch.Tensor) -> BevOutputs:
    empty = torch.zeros(1, 1)
    return BevOutputs(heat, box, velocity, None, None, empty, None, empty[0], empty > 0, empty)


def test_an_object_is_drawn_in_its_cell_and_class_only() -> None:
    targets = centre_targets(_batch(), GRID, SIZE, 2)
    assert targets.heatmap[0, 1].argmax().item() == 3 * 16 + 5
    assert targets.heatmap[0, 1, 3, 5] == 1.0
    assert 0 < float(targets.heatmap[0, 1, 4, 5]) < 1
    assert float(targets.heatmap[0, 0].max()) == 0.0  # off the ground, and padding
    assert targets.there.tolist() == [[True, False, False]]
    torch.testing.assert_close(targets.box[0, 0, :3], torch.tensor([0.25, 0.0, 0.7]))


def test_the_truth_costs_less_than_anything_near_it() -> None:
    targets = centre_targets(_batch(), GRID, SIZE, 2)
    heat = torch.full((1, 2, *SIZE), -9.0)
    heat[0, 1, 3, 5] = 9.0
    box, velocity = torch.zeros(1, 8, *SIZE), torch.zeros(1, 2, *SIZE)
    box[0, :, 3, 5], velocity[0, :, 3, 5] = targets.box[0, 0], targets.velocity[0, 0]
    right = centre_losses(_maps(heat, box, velocity), targets)
    assert all(float(value) < 1e-3 for value in right.values())
    beside = heat.roll(2, 3)
    wrong = centre_losses(_maps(beside, box + 0.5, velocity + 1), targets)
    assert all(float(wrong[name]) > float(right[name]) + 0.1 for name in right)


def test_a_frame_without_objects_still_teaches() -> None:
    batch = {"truth_label": torch.full((1, 3), -1), "truth_box3d": torch.zeros(1, 3, 8)}
    heat = torch.zeros(1, 2, *SIZE, requires_grad=True)
    losses = centre_losses(
        _maps(heat, torch.zeros(1, 8, *SIZE), torch.zeros(1, 2, *SIZE)), centre_targets(batch, GRID, SIZE, 2)
    )
    losses["heatmap"].backward()
    assert bool((heat.grad > 0).all())  # type: ignore[operator]
    assert float(losses["box"]) == float(losses["velocity"]) == 0.0
