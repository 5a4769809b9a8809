"""What a fold's recogniser says of clips at several levels of noise, and of noise alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusion.training.spoken.clips import CLIP_SAMPLES, WordClips
from fusion.training.spoken.pack import CommandPack
from fusion.training.spoken.recogniser import CommandRecogniser
from fusion.training.spoken.sounds import in_noise, placed
from fusion.types import Float32Array

SCORES = "scores.npz"
"""The file of all folds' scores, in a run's output folder."""
LEVELS_DB = (None, 20.0, 10.0, 5.0, 0.0)
"""Signal to noise that clips are heard at; None is the clip as it is."""


@dataclass(frozen=True, slots=True, eq=False)
class FoldScores:
    """Probabilities (..., NONE + 1) float32: of the fold's test clips `words` and validation clips `chosen`, each
    (levels, n), in the order of the fold's rows; of `noise` alone (k), of which `noises` tells the rows in the pack's
    test noises; and of `digits` (d), clips that nothing learns from.
    """

    words: Float32Array
    chosen: Float32Array
    noise: Float32Array
    noises: NDArray[np.int64]
    digits: Float32Array

    def arrays(self, name: str) -> dict[str, Any]:
        """Its arrays as `NAME/FIELD`."""
        return {f"{name}/{field}": getattr(self, field) for field in self.__slots__}

    @classmethod
    def of(cls, arrays: Mapping[str, Any], name: str) -> FoldScores:
        """What `arrays` told."""
        return cls(**{field: arrays[f"{name}/{field}"] for field in cls.__slots__})


def score_fold(model: CommandRecogniser, pack: CommandPack, fold: int) -> FoldScores:
    """Test clips under the pack's test noises, validation clips under those of training, one noise a clip.

    Every test noise alone is heard in one of the folds.
    """
    rows = np.arange(fold, len(pack.test_noises), len(pack.folds))
    own = pack.folds[fold]
    return FoldScores(
        heard(model, pack.real, own.test, pack.test_noises),
        heard(model, pack.real, own.validation, pack.noises),
        model.probabilities(_sounds(model, list(pack.test_noises[rows]))),
        rows,
        model.probabilities(_sounds(model, [placed(wave) for wave in pack.digits.waves])),
    )


def heard(model: CommandRecogniser, clips: WordClips, rows: NDArray[np.int64], noises: Float32Array) -> Float32Array:
    """Probabilities (levels, n, NONE + 1) of the clips of these rows; a clip's row tells its noise, by no draw."""
    waves = _sounds(model, [clips.waves[row] for row in rows])
    under = _sounds(model, list(noises[rows * 7919 % len(noises)]))
    found = []
    for level in LEVELS_DB:
        sounds = waves if level is None else in_noise(waves, under, waves.new_full((len(waves),), level))
        found.append(model.probabilities(sounds))
    return np.stack(found)


def _sounds(model: CommandRecogniser, waves: Sequence[Float32Array]) -> Tensor:
    stacked = np.stack(waves) if len(waves) else np.zeros((0, CLIP_SAMPLES), np.float32)
    return torch.from_numpy(stacked).to(next(model.parameters()).device)
