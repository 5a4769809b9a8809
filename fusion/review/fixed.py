"""A reviewer without a model: its answers are a function of the evidence's bytes. For tests, demos and load runs."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from fusion.review.base import ANY_PROFILE, PreparedItem
from fusion.task import Slot, Task
from fusion.types import Evidence, SlotAnswer

_CELLS_PER_TOKEN = 8
_PIXELS_TOKENS = 16
_TEXT_TOKENS = 12
_SURE = 0.9


@dataclass(frozen=True, slots=True)
class FixedReviewer:
    """Answers from a hash: the same evidence always gets the same answer, evidence with pixels a sure one.

    Without pixels the chosen option's probability is spread over 1/n..1, so some answers are uncertain.
    `seconds_per_batch` and `seconds_per_token` let it take as long as a model would.
    """

    task: Task
    profiles: frozenset[str] = frozenset({ANY_PROFILE})
    seconds_per_batch: float = 0.0
    seconds_per_token: float = 0.0

    @property
    def name(self) -> str:
        """`fixed:TASK`; there are no weights to fingerprint."""
        return f"fixed:{self.task.name}"

    @classmethod
    def load(cls, argument: str) -> Self:
        """The reviewer of the task called `argument`; raises `ConfigError` when there is none."""
        return cls(Task.load(argument))

    @property
    def price(self) -> Callable[[Evidence], int]:
        """What reviews cost."""
        return self.cost

    def cost(self, evidence: Evidence) -> int:
        """Text, the item's and scene's tokens, one token for eight gated cells, and a fixed price for pixels."""
        cells = sum(window.cells for window in evidence.maps.windows) if evidence.maps else 0
        tokens = len(evidence.tokens.values) if evidence.tokens else 0
        pixels = _PIXELS_TOKENS if evidence.pixels else 0
        return _TEXT_TOKENS + tokens + math.ceil(cells / _CELLS_PER_TOKEN) + pixels

    def prepare(self, evidence: Evidence) -> PreparedItem:
        """The payload is the digest of the item and its lanes, and whether pixels are among them."""
        digest = hashlib.sha256(str(evidence.item).encode())
        if evidence.maps:
            digest.update(b"".join((evidence.maps.gate, *(layer.symbols for layer in evidence.maps.layers))))
        if evidence.tokens:
            digest.update(evidence.tokens.values.tobytes())
        if evidence.pixels:
            digest.update(evidence.pixels.encoded)
        return PreparedItem(evidence.item, self.cost(evidence), (digest.digest(), evidence.pixels is not None))

    def score(self, batch: Sequence[PreparedItem]) -> list[dict[str, SlotAnswer]]:
        """Answer from the digests; takes as long as the reviewer was told to."""
        seconds = self.seconds_per_batch + self.seconds_per_token * sum(row.tokens for row in batch)
        if seconds > 0:
            time.sleep(seconds)
        return [{slot.name: _answer(slot, row) for slot in self.task.slots} for row in batch]


def _answer(slot: Slot, row: PreparedItem) -> SlotAnswer:
    digest, sure = row.payload if isinstance(row.payload, tuple) else (b"", False)
    drawn = hashlib.sha256(slot.name.encode() + digest).digest()
    options = len(slot.options)
    chosen = drawn[0] % options
    floor = max(1.0 / options, _SURE if sure else 0.0)
    top = floor + (1.0 - floor) * (drawn[1] + 1) / 257
    rest = (1.0 - top) / (options - 1)
    probabilities = {name: top if index == chosen else rest for index, name in enumerate(slot.options)}
    return SlotAnswer(slot.options[chosen], probabilities)
