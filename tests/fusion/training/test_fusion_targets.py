"""Who answers for which object."""

import torch
from torch import Tensor

from fusion.model.items import anchor_places
from fusion.training.fusion_targets import IGNORED, assign, spotting_loss

CLASSES = 6


def _batch(**changes: Tensor) -> dict[str, Tensor]:
    anchors = anchor_places(32)
    batch = {
        "truth_row": torch.full((1, 32), -1),
        "box_valid": torch.zeros(1, 32, dtype=torch.bool),
        "lidar_available": torch.ones(1, dtype=torch.bool),
        "truth_label": torch.tensor([[2, 4, -1]]),
        "truth_condition": torch.tensor([[1, -1, -1]]),
        "truth_box3d": torch.zeros(1, 3, 8),
        "truth_has_box3d": torch.tensor([[True, True, False]]),
        "truth_clear": torch.tensor([[True, True, False]]),
        "asked": torch.tensor([1]),
    }
    batch["truth_box3d"][0, 0, :3] = anchors[7] + 0.1
    batch["truth_box3d"][0, 1, :3] = anchors[20] - 0.1
    return batch | changes


def test_unclaimed_objects_go_to_the_nearest_anchor() -> None:
    found = assign(_batch(), anchor_places(32), CLASSES)
    assert found.truth[0, 7] == 0
    assert found.truth[0, 20] == 1
    assert int((found.truth >= 0).sum()) == 2
    assert (found.label[0, 7], found.label[0, 20], found.label[0, 0]) == (2, 4, CLASSES)
    assert (found.condition[0, 7], found.condition[0, 20], found.condition[0, 0]) == (1, IGNORED, IGNORED)
    assert found.asked[0].nonzero()[:, 0].tolist() == [20]
    assert found.weight[0, 7] == 1
    assert found.weight[0, 0] < 1


def test_a_detection_keeps_what_it_overlaps() -> None:
    valid, rows = torch.zeros(1, 32, dtype=torch.bool), torch.full((1, 32), -1)
    valid[0, :2], rows[0, 0] = True, 0
    found = assign(_batch(box_valid=valid, truth_row=rows), anchor_places(32), CLASSES)
    assert found.truth[0, 0] == 0
    assert found.truth[0, 7] == -1
    assert found.label[0, 1] == CLASSES
    assert found.weight[0, 1] == 1


def test_without_lidar_no_anchor_answers() -> None:
    found = assign(_batch(lidar_available=torch.zeros(1, dtype=torch.bool)), anchor_places(32), CLASSES)
    assert bool((found.truth == -1).all())


def test_a_hidden_object_is_neither_wanted_nor_punished() -> None:
    found = assign(_batch(truth_clear=torch.tensor([[True, False, False]])), anchor_places(32), CLASSES)
    assert found.truth[0, 20] == -1
    assert found.weight[0, 20] == 0


def test_uncertain_frames_do_not_count() -> None:
    said = torch.tensor([[[1.0], [0.0], [-1.0]]])
    right = torch.tensor([[[9.0], [-9.0], [-9.0]]])
    assert float(spotting_loss(right, said)) < 1e-3
    assert float(spotting_loss(-right, said)) > 1
