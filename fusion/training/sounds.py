"""What a sample hears: sound itself, or what frozen ears made of it once and for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from fusion.encoders.spotting import SpottingEncoder
from fusion.preparation.fusion_spec import FusionSpec
from fusion.simulation.commands import Command
from fusion.training.scene_features import FeatureCache
from fusion.training.utterances import UtteranceBank, spoken_words
from fusion.types import Float32Array

_FITTING, _OTHER = 0.7, 0.88
"""Of drawn utterances the shares that name an object of the scene and, up to here, that say something else."""
_MIXED = 0.8
"""Share of training samples that hear a drawn utterance, not the scene's own recording."""


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """`heard`: whether there is speech to be heard; what it says; `target` the truth index of the object asked for, -1
    for none; `sound` as its source knows it.
    """

    heard: bool
    text: str
    intent: int
    target: int
    sound: Any


class Sounds(Protocol):
    """Where samples get what they hear from."""

    def drawn(self, index: int, rng: np.random.Generator) -> Utterance:
        """Something fitting, or nothing, for a training sample of scene `index`."""

    def recorded(self, index: int) -> Utterance:
        """What was recorded in scene `index`."""

    def tensors(self, utterances: Sequence[Utterance], device: torch.device) -> dict[str, Tensor]:
        """Inputs of the ears, by name, with a batch axis."""


class Choice:
    """Chooses, out of `commands`, what could be said in a scene."""

    def __init__(self, cache: FeatureCache, spec: FusionSpec, commands: Sequence[Command]) -> None:
        self._phrases, self._intents, self._commands = cache.phrases, spec.intents, commands
        self._by_phrase: dict[str, list[int]] = {}
        self._others: list[int] = []
        for number, command in enumerate(commands):
            if command.intent == "inspect":
                self._by_phrase.setdefault(command.text[command.text.index("the ") :], []).append(number)
            elif command.text:
                self._others.append(number)

    def drawn(self, index: int, rng: np.random.Generator) -> Utterance:
        """An utterance for scene `index`; its `sound` is its number among the commands, None for noise alone."""
        fitting = [(text, target) for text, target in self._phrases[index] if text in self._by_phrase]
        draw = rng.random()
        if draw < _FITTING and fitting:
            text, target = fitting[int(rng.integers(len(fitting)))]
            chosen = self._by_phrase[text]
            number = chosen[int(rng.integers(len(chosen)))]
        elif draw < _OTHER and self._others:
            number, target = self._others[int(rng.integers(len(self._others)))], -1
        else:
            return Utterance(bool(rng.random() < 0.5), "", 0, -1, None)
        command = self._commands[number]
        return Utterance(True, command.text, self._intents.index(command.intent), target, number)


class Waves:
    """Sound: the scenes' own recordings, and in training mostly mixtures of `bank`."""

    def __init__(self, cache: FeatureCache, spec: FusionSpec, bank: UtteranceBank | None = None) -> None:
        self._cache, self._spec, self._bank = cache, spec, bank
        self._choice = Choice(cache, spec, bank.commands) if bank else None

    def drawn(self, index: int, rng: np.random.Generator) -> Utterance:
        """Three seconds of a mixture, or the recording."""
        if self._bank is None or self._choice is None or rng.random() >= _MIXED:
            return self.recorded(index)
        chosen = self._choice.drawn(index, rng)
        return replace(chosen, sound=self._bank.mix(chosen.sound, rng).sound)

    def recorded(self, index: int) -> Utterance:
        """The recording."""
        features = self._cache.features
        sound = features.pcm[index].astype(np.float32) / 32768
        asked = np.flatnonzero(features.asked[index])
        target = int(asked[0]) if len(asked) else -1
        return Utterance(
            bool(features.speech[index]), self._cache.transcripts[index], int(features.intent[index]), target, sound
        )

    def tensors(self, utterances: Sequence[Utterance], device: torch.device) -> dict[str, Tensor]:
        """`pcm` (B, samples) float32 in -1..1 and `words` (B, words) float32, 1 for each that is said."""
        words = np.stack([spoken_words(u.text, self._spec.words) for u in utterances])
        pcm = np.stack([u.sound for u in utterances])
        return {"pcm": torch.from_numpy(pcm).to(device), "words": torch.from_numpy(words).to(device)}


@dataclass(frozen=True, slots=True, eq=False)
class HeardTable:
    """What frozen ears made of sounds: `tokens` (n, 1 + frames, D) float16, `positions` (1, 1 + frames, D) float32, and
    what was said, n commands.
    """

    tokens: Tensor
    positions: Tensor
    commands: tuple[Command, ...]


class HeardTokens:
    """Tokens of frozen ears instead of sound: `pool` for training, `recordings` (row i is scene i) for evaluation."""

    def __init__(
        self,
        cache: FeatureCache,
        spec: FusionSpec,
        *,
        pool: HeardTable | None = None,
        recordings: HeardTable | None = None,
        device: str = "cpu",
    ) -> None:
        table = pool or recordings
        if table is None:
            raise ValueError("neither a pool of utterances nor recordings")
        self._waves = Waves(cache, spec)
        self._tokens = table.tokens.to(device)
        self._choice = Choice(cache, spec, table.commands) if pool is not None else None
        self._silence = [i for i, command in enumerate(table.commands) if not command.text]

    def drawn(self, index: int, rng: np.random.Generator) -> Utterance:
        """A row of the pool; noise alone is one of its rows without words."""
        assert self._choice is not None
        chosen = self._choice.drawn(index, rng)
        if chosen.sound is not None:
            return chosen
        return replace(chosen, sound=self._silence[int(rng.integers(len(self._silence)))])

    def recorded(self, index: int) -> Utterance:
        """Row `index` of the recordings."""
        return replace(self._waves.recorded(index), sound=index)

    def tensors(self, utterances: Sequence[Utterance], device: torch.device) -> dict[str, Tensor]:
        """`speech_tokens` (B, 1 + frames, D) float32."""
        rows = torch.tensor([u.sound for u in utterances], device=self._tokens.device)
        return {"speech_tokens": self._tokens[rows].float().to(device)}


class HeardEars(nn.Module):
    """In the place of ears: hands on what they made, narrowed by a layer where the model is not `width` wide."""

    INPUTS = ("speech_tokens",)
    positions: Tensor

    def __init__(self, positions: Tensor, intents: int, width: int) -> None:
        super().__init__()
        self._intents = intents
        self.register_buffer("positions", positions, persistent=False)  # (1, 1 + frames, D)
        own = positions.shape[2]
        self.fit = nn.Identity() if own == width else nn.Linear(own, width)

    def hear(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens and their positions, and logits of no words and of intents, which nobody learns from."""
        count = len(tokens)
        positions = self.fit(self.positions).expand(count, -1, -1)
        return self.fit(tokens), positions, tokens.new_zeros(count, 0), tokens.new_zeros(count, self._intents)


@torch.inference_mode()
def heard_sounds(ears: SpottingEncoder, sounds: Sequence[Float32Array], commands: Sequence[Command]) -> HeardTable:
    """The tokens of `sounds`, each (samples,) float32 in -1..1, by `ears` as they are."""
    ears.eval()
    tokens, positions = [], torch.zeros(0)
    for start in tqdm(range(0, len(sounds), 32), desc="heard", unit="batch"):
        made, positions, *_ = ears.hear(torch.from_numpy(np.stack(sounds[start : start + 32])))
        tokens.append(made.half())
    return HeardTable(torch.cat(tokens), positions[:1].clone(), tuple(commands))


def pooled_utterances(
    ears: SpottingEncoder, bank: UtteranceBank, *, count: int, silent: float = 0.08, seed: int = 7
) -> HeardTable:
    """`count` mixtures of `bank`, `silent` of them noise alone, heard once by `ears`."""
    rng = np.random.default_rng([seed, 29])
    sounds, commands = [], []
    for number in range(count):
        if number < silent * count:
            sounds.append(bank.mix(None, rng).sound)
            commands.append(Command("", "none", 0))
            continue
        chosen = int(rng.integers(len(bank.commands)))
        sounds.append(bank.mix(chosen, rng).sound)
        commands.append(bank.commands[chosen])
    return heard_sounds(ears, sounds, commands)


def recorded_sounds(cache: FeatureCache) -> list[Float32Array]:
    """What was recorded in every scene of `cache`: (samples,) float32 in -1..1."""
    return [np.asarray(pcm, np.float32) / np.float32(32768) for pcm in cache.features.pcm]


def said_in(cache: FeatureCache, intents: Sequence[str]) -> list[Command]:
    """The commands of the scenes' own recordings."""
    told: Mapping[int, str] = dict(enumerate(intents))
    return [Command(text, told[int(i)], 0) for text, i in zip(cache.transcripts, cache.features.intent, strict=True)]
