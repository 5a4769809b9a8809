"""What a chat server answered: its text, its tokens where it tells them, and what that says of every slot."""

from __future__ import annotations

import json
import math
from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fusion.errors import UnavailableError
from fusion.review.remote.logprobs import Token, spread
from fusion.task import Slot, Task
from fusion.types import Float64Array

_DECODER = json.JSONDecoder()
_MOST_OBJECTS = 256
"""Braces behind which an answer is looked for."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `tokens` is empty where the server tells no probabilities."""

    text: str
    tokens: tuple[Token, ...] = ()

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Read a chat completion. Raises `UnavailableError` for what is none: some other program answered."""
        try:
            choice = json.loads(body)["choices"][0]
            text = choice["message"]["content"] or ""
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            raise UnavailableError("answers with something that is no chat completion") from None
        return cls(text if isinstance(text, str) else "", _tokens(choice.get("logprobs")))

    def tables(self, task: Task, confidence: float) -> list[Float64Array]:
        """Every slot's probabilities over its options, in order.

        They are the server's own where it told them. Otherwise the told option has `confidence`, which is an
        assumption, and the others share the rest. Of a slot that the answer lacks, or answers with none of its
        options, nothing is known: each option is as probable as another.
        """
        told = _told(self.text, {slot.name for slot in task.slots})
        return [self._table(slot, told.get(slot.name), confidence) for slot in task.slots]

    def _table(self, slot: Slot, told: Any, confidence: float) -> Float64Array:
        count = len(slot.options)
        option = told.strip().lower() if isinstance(told, str) else None
        if option not in slot.options:
            return np.full(count, 1 / count)
        shares = spread(self.tokens, slot.name, slot.options, told)
        if shares is not None:
            return np.array(shares)
        table = np.full(count, (1 - confidence) / (count - 1))
        table[slot.options.index(option)] = confidence
        return table


def _told(text: str, slots: Container[str]) -> dict[str, Any]:
    """The last JSON object in `text` that has one of `slots`, which may stand in a fence, between words or in another
    object; empty where there is none.
    """
    told: dict[str, Any] = {}
    at = 0
    for _ in range(_MOST_OBJECTS):
        begin = text.find("{", at)
        if begin < 0:
            break
        at = begin + 1
        try:
            found, end = _DECODER.raw_decode(text, begin)
        except (ValueError, RecursionError):
            continue
        if any(name in slots for name in found):
            told, at = found, end
    return told


def _tokens(logprobs: Any) -> tuple[Token, ...]:
    """The tokens told, none where they are not in the form that was asked for."""
    try:
        return tuple(_token(entry) for entry in logprobs["content"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return ()


def _token(entry: dict[str, Any]) -> Token:
    text = _bytes(entry)
    others: dict[bytes, float] = {}
    for other in entry.get("top_logprobs") or ():
        others[_bytes(other)] = others.get(_bytes(other), 0.0) + _probability(other)
    return Token(text, others if text in others else {**others, text: _probability(entry)})


def _bytes(entry: dict[str, Any]) -> bytes:
    told = entry.get("bytes")
    return bytes(told) if isinstance(told, list) else str(entry["token"]).encode()


def _probability(entry: dict[str, Any]) -> float:
    logprob = float(entry["logprob"])
    if math.isnan(logprob):
        raise ValueError("a probability that is none")
    return math.exp(min(0.0, logprob))
