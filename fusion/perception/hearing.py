"""Which utterance is in effect: the window of sound slides over it, and its tail must not replace the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fusion.types import Float32Array

KEPT_NS = 4_000_000_000
"""How long an utterance stays in effect after it was first heard whole."""
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
    """Decides, from words alone, whether a window brings something new. Pure: time is given, nothing sleeps.

    While sound is listened to again and again, an utterance counts once a window has brought no further word: half
    a command ("the crate") would be taken for another one ("the crate on the left"). It stays in effect for
    `KEPT_NS` from the window that held all of it first, however long the sliding window still shows it.
    """

    def __init__(self) -> None:
        self._utterance: Utterance | None = None
        self._forming: Utterance | None = None
        self._gone = False
        self._listened_ns: int | None = None

    def due(self, time_ns: int) -> bool:
        """Whether it is time to listen again; time that goes back is a new recording."""
        last = self._listened_ns
        return last is None or not 0 <= time_ns - last < EVERY_NS

    def listen(self, outputs: Mapping[str, Float32Array], time_ns: int) -> None:
        """Take note of a window that ends at `time_ns`. `outputs` are the encoder's, with `words` (1, W) probabilities.

        A window without a word changes nothing. One whose words are all in the utterance in effect is that
        utterance or its tail, unless it had gone by and is heard whole again. Any other is a new one.
        """
        last, self._listened_ns = self._listened_ns, time_ns
        first = last is None or not 0 <= time_ns - last <= 2 * EVERY_NS
        heard = Utterance(outputs, frozenset(int(i) for i in np.flatnonzero(outputs["words"][0] > _SURE)), time_ns)
        forming, self._forming = None if first else self._forming, None
        if forming is not None and heard.words <= forming.words:
            self._take(forming)
            return
        current = self.current(time_ns)
        if not heard.words or (current is not None and heard.words < current.words):
            self._gone = True
        elif current is None or heard.words != current.words or self._gone:
            if first:
                self._take(heard)
            else:
                self._forming = heard

    def _take(self, utterance: Utterance) -> None:
        self._utterance, self._gone = utterance, False

    def current(self, time_ns: int) -> Utterance | None:
        """The utterance in effect at `time_ns`."""
        if self._utterance is not None and not 0 <= time_ns - self._utterance.time_ns <= KEPT_NS:
            self._utterance = None
        return self._utterance
