"""What counts as right."""

import torch

from fusion.model.heads import FusedOutputs
from fusion.training.fusion_metrics import FusionLog
from fusion.training.fusion_targets import IGNORED, Targets


def _told(guesses: list[list[tuple[float, float]]], objects: list[list[tuple[float, float]]]) -> dict[str, float]:
    """The figures of scenes without a box, of one class, with `guesses` and `objects` at these places."""
    rows, queries = len(guesses), 4
    logits = torch.tensor([0.0, 1.0]).repeat(rows, queries, 1)
    places, truth = torch.zeros(rows, queries, 8), torch.zeros(rows, queries, 8)
    there = torch.zeros(rows, queries, dtype=torch.bool)
    for row, (said, real) in enumerate(zip(guesses, objects, strict=True)):
        for index, place in enumerate(said):
            logits[row, index], places[row, index, :2] = torch.tensor([1.0, 0.0]), torch.tensor(place)
        for index, place in enumerate(real):
            there[row, index], truth[row, index, :2] = True, torch.tensor(place)
    none = torch.zeros(rows, queries)
    outputs = FusedOutputs(
        none[..., None], none[..., None], logits, none[..., None], none, places, torch.zeros(rows, 2),
        torch.zeros(rows), torch.ones(rows, 1), torch.zeros(rows, 1),
    )  # fmt: skip
    nothing = torch.full((rows, queries), -1)
    targets = Targets(nothing, none, nothing, torch.full_like(nothing, IGNORED), none, places, none.bool())
    batch = {
        "box_valid": none.bool(),
        "intent": torch.zeros(rows, dtype=torch.long),
        "asked": torch.full((rows,), -1),
        "lidar_available": torch.ones(rows, dtype=torch.bool),
        "truth_clear": there,
        "truth_has_box3d": there,
        "truth_box3d": truth,
    }
    log = FusionLog(("ok",))
    log.add(outputs, targets, batch, 1)
    return log.summary()


def test_an_alarm_where_nothing_is_counts_against_precision() -> None:
    told = _told([[(3.0, 0.0)], [(5.0, 1.0)]], [[(3.2, 0.0)], []])
    assert (told["anchor recall"], told["anchor precision"]) == (1.0, 0.5)


def test_an_object_is_found_once() -> None:
    told = _told([[(3.0, 0.0), (3.1, 0.0), (3.2, 0.2)]], [[(3.1, 0.0), (9.0, 0.0)]])
    assert (told["anchor recall"], told["anchor precision"]) == (0.5, 0.3333)


def test_one_guess_finds_one_object() -> None:
    told = _told([[(3.0, 0.0)]], [[(3.4, 0.0), (2.7, 0.0)]])
    assert (told["anchor recall"], told["anchor precision"]) == (0.5, 1.0)
    assert _told([[]], [[(3.4, 0.0)]])["anchor recall"] == 0.0
