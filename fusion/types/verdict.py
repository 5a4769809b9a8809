"""The reviewer's answer about one item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fusion.types.identity import ItemId


@dataclass(frozen=True, slots=True)
class SlotAnswer:
    """One enumerated slot: the chosen option, and every option's calibrated probability (they sum to 1)."""

    option: str
    probabilities: Mapping[str, float]

    @property
    def confidence(self) -> float:
        """Probability of the chosen option."""
        return self.probabilities[self.option]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One review. `uncertain` when a slot stayed under the reviewer's confidence floor to the end.

    `lanes` says what was read (`maps`, `tokens`, `pixels`); `reviewer` and `prompt_sha256` say who
    answered what question. `rationale` is why, in the reviewer's own words and empty where it was not asked; it was
    written after the answers, explains them, and proves nothing.
    """

    item: ItemId
    slots: Mapping[str, SlotAnswer]
    uncertain: bool
    lanes: tuple[str, ...]
    reviewer: str
    prompt_sha256: str
    rationale: str = ""
