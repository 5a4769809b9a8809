"""Why a verdict says what it says, in a reviewer's own words: what reviewers that can write have in common.

A rationale is written after the answers and told them, as the end of the JSON object that they begin. So it explains
the verdict that was given, cannot change it, and proves nothing. What may stand in it is one line of plain characters:
nothing that ends the string, breaks a log or a page, or hides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from fusion.review.base import PreparedItem
from fusion.types import SlotAnswer

MAX_CHARACTERS = 600
PLAIN = r"A-Za-z0-9,.;:()%/+'-"
"""The characters, besides single spaces, of which a rationale is made; as they stand in a character class."""

CUT = "..."
"""What ends a rationale that the token limit cut off."""

_OTHERS = re.compile(rf"[^{PLAIN}]+")
CarryOn = Callable[[], bool]


@runtime_checkable
class Explains(Protocol):
    """What a reviewer may have besides `Reviewer`: it can say why."""

    def explain(
        self, row: PreparedItem, answers: Mapping[str, SlotAnswer], max_tokens: int, carry_on: CarryOn = lambda: True
    ) -> str:
        """Why `row` was given `answers`, in at most `max_tokens` tokens of its own, `MAX_CHARACTERS` and plain text.

        Empty where nothing was read, nothing was said, or `carry_on`, asked again and again meanwhile, said no. Raises
        `FusionError` where it cannot be had.
        """


def told_verdict(answers: Mapping[str, SlotAnswer]) -> str:
    """The answers as the beginning of a JSON object that goes on with the reason."""
    begun = json.dumps({slot: answer.option for slot, answer in answers.items()})
    return f'{begun[:-1]}, "because": "'


def plain(text: str, *, cut: bool) -> str:
    """`text` as a rationale: plain characters and single spaces, marked where it was `cut`."""
    words = _OTHERS.sub(" ", text).strip()
    if len(words) > MAX_CHARACTERS - len(CUT):
        words, cut = words[: MAX_CHARACTERS - len(CUT)].strip(), True
    return f"{words}{CUT}" if cut and words else words
