"""Which object an utterance is about, composed of what it says and what was found.

"Inspect the left drum" is a small program: of the class that was said, in the condition that was said, the one that
stands furthest in the direction that was said. The steps are soft, so what is learnt is only which words an utterance
holds (neural module networks, Andreas et al., 2016, with one fixed layout).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusion.model.attention import standing

WAYS = 4
"""Left, right, nearest, farthest, in the order of `standing`."""
_LEAST = 1e-3
_SHARPNESS = 2.0


class Referring(nn.Module):
    """Adds evidence to the logit of being asked for. Each choice has an option more for "not said"."""

    def __init__(self, width: int, classes: int, conditions: int) -> None:
        super().__init__()
        self.sizes = (classes + 1, conditions + 1, WAYS + 1)
        self.said = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, sum(self.sizes)))
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(torch.tensor(1.0))

    def forward(self, utterance: Tensor, place: Tensor, labels: Tensor, conditions: Tensor) -> Tensor:
        """`utterance` (B, D), `place` (B, Q, 3) metres; `labels` (B, Q, C + 1, the last is "nothing") and `conditions`
        (B, Q, K) are probabilities → (B, Q). Nothing is asked for where no class was said.
        """
        which, how, where = (x.softmax(-1) for x in self.said(utterance).split(self.sizes, -1))
        things = labels[..., :-1]
        of_class = (things * which[:, None, :-1]).sum(-1)
        in_condition = (conditions * how[:, None, :-1]).sum(-1) + how[:, None, -1]
        foremost = torch.exp(-_SHARPNESS * standing(place, things))  # (B, Q, 4): 1 with none of its class before it
        in_place = (foremost * where[:, None, :-1]).sum(-1) + where[:, None, -1]
        fit = of_class * in_condition * in_place
        return self.gain * torch.log(fit + _LEAST) + self.bias
