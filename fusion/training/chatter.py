"""Talk that is no command: sentences of everyday words, so that ears learn what not to listen to.

A yard is full of voices, and a model that only ever heard five other sentences takes any sixth for a command. The words
are common ones and some that sound like the operators' own (crane, ballot, drama, loft); the simulation's own talk is
not among the sentences, and the test split's words are left out (a test holds that).
"""

from __future__ import annotations

import numpy as np


def _words(text: str) -> list[str]:
    return text.split()


_PEOPLE = _words(
    """
    i you we they she he someone nobody everybody my-brother the-driver the-boss our-neighbour the-doctor
    """
)
_DOING = _words(
    """
    saw took found wanted moved carried washed painted lost sold bought heard followed wrote counted-on dropped
    likes needs makes drinks reads knows asked-for looked-for checked-in-with stopped-by
    """
)
_THINGS = _words(
    """
    coffee water sugar paper money music breakfast summer winter holiday window kitchen garden river mountain
    village street bicycle tractor engine hammer ladder bucket bottle blanket ticket letter picture story number
    question answer meeting crane ballot drama loft chrome bone phone parson fork elevator plate crayon create
    pellet thumb rum carton tone stone light lighter writer right-answer left-over nearby-shop far-away-town shop
    step copy top coat mount account report-card
    """
)
_HOW = _words(
    """
    quickly slowly again today yesterday tonight twice never always maybe already early in-the-morning on-monday
    after-dinner before-winter under-the-bridge behind-the-house in-the-city for-an-hour near-the-river
    at-the-station with-a-friend
    """
)
_OPENINGS = _words(
    """
    well listen honestly by-the-way i-think you-know sorry hello okay yes no so and-then but
    """
)


def chatter(rng: np.random.Generator) -> str:
    """A sentence, or a piece of one, of two to about ten words."""
    kind = rng.integers(4)
    if kind == 0:
        words = [_one(rng, _OPENINGS), _one(rng, _PEOPLE), _one(rng, _DOING), "the", _one(rng, _THINGS)]
    elif kind == 1:
        words = [_one(rng, _PEOPLE), _one(rng, _DOING), "a", _one(rng, _THINGS), _one(rng, _HOW)]
    elif kind == 2:
        words = ["the", _one(rng, _THINGS), "and", "the", _one(rng, _THINGS), "are", _one(rng, _HOW)]
    else:
        words = [_one(rng, _THINGS + _HOW + _DOING) for _ in range(int(rng.integers(2, 6)))]
    return " ".join(words).replace("-", " ")


def _one(rng: np.random.Generator, words: list[str]) -> str:
    return words[int(rng.integers(len(words)))]
