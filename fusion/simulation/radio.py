"""The microphone of a patrol: noise all along, and what is said, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fusion.simulation.commands import Command
from fusion.simulation.draws import Draws
from fusion.simulation.rig import SAMPLE_RATE_HZ
from fusion.simulation.sound import background, to_pcm
from fusion.simulation.speech import Speaker, draw_speaker, say
from fusion.types import Int16Array

CHUNK_SAMPLES = SAMPLE_RATE_HZ // 10
AHEAD_FRAMES = 18
_HOLD_FRAMES = 40
_LOUDEST = 0.9
_NOBODY = Speaker("", 0, 0)


class Radio:
    """Sound of `frames` chunks of 100 ms; chunk k ends when frame k is taken.

    An utterance is in effect from the frame in whose chunk it ends, for 4 s or until the next one.
    """

    def __init__(self, draws: Draws, frames: int, noise_dir: Path | None = None) -> None:
        self._draws = draws
        self._noise_level = draws.uniform(0.01, 0.04)
        self._track = background(draws, max(frames, 1) * CHUNK_SAMPLES, noise_dir) * np.float32(self._noise_level)
        self._next = int(draws.rng.integers(8, 20))
        self._said: list[tuple[int, Command, Speaker]] = []

    def listen(self, frame: int, command: Callable[[Draws], Command]) -> Int16Array:
        """The chunk (1600,) of a frame. When it is time to speak, `command` says what, for the next chunks."""
        if frame >= self._next:
            self._speak(frame, command(self._draws))
            self._next = frame + int(self._draws.rng.integers(56, 66))
        return to_pcm(self._track[frame * CHUNK_SAMPLES : (frame + 1) * CHUNK_SAMPLES])

    def in_effect(self, frame: int) -> tuple[Command, Speaker]:
        """What was last said by the frame, if that was no more than 4 s ago, and by whom."""
        for first, command, speaker in reversed(self._said):
            if first <= frame:
                return (command, speaker) if frame < first + _HOLD_FRAMES else (Command(), _NOBODY)
        return Command(), _NOBODY

    def _speak(self, frame: int, command: Command) -> None:
        speaker = draw_speaker(self._draws)
        speech = say(command.text, speaker)
        start = (frame + 1) * CHUNK_SAMPLES + int(self._draws.rng.integers(CHUNK_SAMPLES))
        end = start + len(speech)
        if end > len(self._track):
            return
        power = max(float(np.sqrt(np.mean(speech**2))), 1e-6)
        wanted = self._noise_level * 10 ** (self._draws.uniform(4.0, 20.0) / 20) / power
        self._track[start:end] += speech * np.float32(min(_LOUDEST, max(wanted, 0.1)))
        self._said.append((-(-end // CHUNK_SAMPLES) - 1, command, speaker))
