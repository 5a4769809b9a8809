"""From the probabilities of tokens to those of a slot's options."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Token:
    """One token of an answer: its `text`, and the probability of it and of what else could have stood there."""

    text: bytes
    top: Mapping[bytes, float]


def spread(tokens: Sequence[Token], slot: str, options: Sequence[str], told: str) -> list[float] | None:
    """The probability of each of `options`, in order, after an answer that says `told`; None where it does not tell.

    Read at the first token where the options part, and at those that follow while several still begin alike. An
    option that is in no token's list shares what the list leaves over; the sum is made 1. Where `told` is an option in
    other case, case counts nowhere.
    """
    text = b"".join(token.text for token in tokens)
    begins = [match.end() for match in re.finditer(rb'"' + re.escape(slot.encode()) + rb'"\s*:\s*"', text)]
    if not begins or not text[begins[-1] :].startswith(told.encode() + b'"'):
        return None
    lead = text[: begins[-1]]
    if told not in options:
        tokens, lead = [_folded(token) for token in tokens], lead.lower()
    shares = _walk(tokens, lead, [option.encode() for option in options])
    return None if shares is None else [shares[option.encode()] for option in options]


def _folded(token: Token) -> Token:
    top: dict[bytes, float] = {}
    for text, probability in token.top.items():
        top[text.lower()] = top.get(text.lower(), 0.0) + probability
    return Token(token.text.lower(), top)


def _walk(tokens: Sequence[Token], lead: bytes, options: Sequence[bytes]) -> dict[bytes, float] | None:
    shares = dict.fromkeys(options, 0.0)
    alive, mass, at = list(options), 1.0, 0
    for token in tokens:
        begin, at = at, at + len(token.text)
        if at <= len(lead):
            continue
        rest = {option: (lead + option + b'"')[begin:] for option in alive}
        meant = _fitting(rest, token.text)
        if len(meant) == len(alive):  # nothing is told apart yet
            continue
        weights = _weights(token, rest, meant)
        total = sum(weights.values()) + token.top[token.text]
        if not meant or total <= 0:
            return None
        for option, weight in weights.items():
            shares[option] += mass * weight / total
        alive, mass = meant, mass * token.top[token.text] / total
        if len(alive) == 1:
            shares[alive[0]] += mass
            return shares
    return None


def _weights(token: Token, rest: Mapping[bytes, bytes], meant: Sequence[bytes]) -> dict[bytes, float]:
    """What each option that is left has by the tokens that were not told; several that begin alike share evenly."""
    weights = dict.fromkeys(rest, 0.0)
    seen = set(meant)
    for text, probability in token.top.items():
        fitting = [] if text == token.text else _fitting(rest, text)
        seen.update(fitting)
        for option in fitting:
            weights[option] += probability / len(fitting)
    unseen = [option for option in rest if option not in seen]
    for option in unseen:
        weights[option] = max(0.0, 1.0 - sum(token.top.values())) / len(unseen)
    return weights


def _fitting(rest: Mapping[bytes, bytes], text: bytes) -> list[bytes]:
    """The options that go on with `text`, or end within it."""
    return [option for option, left in rest.items() if text and (left.startswith(text) or text.startswith(left))]
