"""An utterance picks its object: class, condition and place together, nothing when nothing is asked."""

import pytest
import torch
from torch import Tensor, nn

from fusion.model.referring import WAYS, Referring

CLASSES, CONDITIONS = ("drum", "crate"), ("ok", "dented")
WAY = {"left": 0, "right": 1, "nearest": 2, "farthest": 3}
# two drums and a crate: (x forward, y left), class, condition
YARD = [((6.0, 2.0), 0, 1), ((8.0, -2.0), 0, 0), ((4.0, 0.0), 1, 0)]


class Heard(nn.Module):
    """Says what it is told to have heard: class, condition and way, None for not said."""

    def __init__(self, which: int | None, how: int | None, where: int | None) -> None:
        super().__init__()
        self.choices = (which, len(CLASSES)), (how, len(CONDITIONS)), (where, WAYS)

    def forward(self, utterance: Tensor) -> Tensor:
        """(B, D) → the logits of all three choices, the last option of each "not said"."""
        parts = []
        for chosen, count in self.choices:
            logits = torch.full((len(utterance), count + 1), -20.0)
            logits[:, count if chosen is None else chosen] = 20.0
            parts.append(logits)
        return torch.cat(parts, 1)


def asked(which: str | None, how: str | None = None, where: str | None = None) -> list[bool]:
    head = Referring(4, len(CLASSES), len(CONDITIONS))
    head.said = Heard(
        None if which is None else CLASSES.index(which),
        None if how is None else CONDITIONS.index(how),
        None if where is None else WAY[where],
    )
    place = torch.tensor([[[*xy, 0.5] for xy, _, _ in YARD]])
    labels = torch.eye(3)[[c for _, c, _ in YARD]][None] * 0.94 + 0.02
    conditions = torch.eye(2)[[k for _, _, k in YARD]][None] * 0.96 + 0.02
    with torch.inference_mode():
        logits = head(torch.zeros(1, 4), place, labels, conditions)
    return (logits[0] > 0).tolist()


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        (("crate",), [False, False, True]),
        (("drum", None, "left"), [True, False, False]),
        (("drum", None, "right"), [False, True, False]),
        (("drum", None, "nearest"), [True, False, False]),
        (("drum", None, "farthest"), [False, True, False]),
        (("drum", "dented"), [True, False, False]),
        (("drum", "ok"), [False, True, False]),
        ((None,), [False, False, False]),
    ],
)
def test_the_object_that_was_meant(phrase: tuple[str | None, ...], expected: list[bool]) -> None:
    assert asked(*phrase) == expected


def test_labels_and_conditions_learn_nothing_from_being_asked_for(model, ports) -> None:
    from fusion.encoders.tokens import Tokens
    from fusion.model.items import Items

    sensors = {
        name: Tokens(*(ports[f"{name}_{part}"] for part in Tokens._fields)) for name in ("camera", "lidar", "speech")
    }
    model.zero_grad()
    model.fuser(sensors, Items(*(ports[name] for name in Items._fields))).asked_logits.sum().backward()
    assert model.fuser.heads.referring.gain.grad is not None
    assert model.fuser.heads.condition[2].weight.grad is None
    model.zero_grad()
