"""Which utterance is in effect: the window of sound slides over it, and its tail must not replace the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fusion.types import Float32Array

KEPT_NS = 4_000_000_000
"""How long an utterance stays in effect after it was last heard whole."""
EVERY_NS = 300_000_000
"""How often the window is listened to while something sounds like speech."""
_SURE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """What the speech encoder made of one window that ended at `time_ns`: its `outputs` by name, and the indices of the
    `words` in it.
    """

    outputs: Mapping[str, Float32Array]
    words: frozenset[int]
    time_ns: int


class Hearing:
    """Decides, from words alone, whether a window brings something new. Pure: time is given, nothing sleeps."""

    def __init__(self) -> None:
        self._utterance: Utterance | None = None
        self._listened_ns: int | None = None

    def due(self, time_ns: int) -> bool:
        """Whether it is time to listen again; time that goes back is a new recording."""
        last = self._listened_ns
        return last is None or not 0 <= time_ns - last < EVERY_NS

    def listen(self, outputs: Mapping[str, Float32Array], time_ns: int) -> None:
        """Take note of a window that ends at `time_ns`. `outputs` are the encoder's, with `words` (1, W) probabilities.

        A window without a word changes nothing. One whose words are all in the utterance in effect, and fewer, is
        its tail. Any other is a new utterance, and the same words again are the same utterance, still whole.
        """
        self._listened_ns = time_ns
        words = frozenset(int(i) for i in np.flatnonzero(outputs["words"][0] > _SURE))
        current = self.current(time_ns)
        if words and not (current is not None and words < current.words):
            self._utterance = Utterance(outputs, words, time_ns)

    def current(self, time_ns: int) -> Utterance | None:
        """The utterance in effect at `time_ns`."""
        if self._utterance is not None and not 0 <= time_ns - self._utterance.time_ns <= KEPT_NS:
            self._utterance = None
        return self._utterance
