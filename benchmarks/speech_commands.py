"""How well the speech encoder tells ten spoken commands apart in voices it never heard, and what else it takes for one.

Clips of Warden's Speech Commands (2018), a folder a word, are dealt into folds by speaker. A fold's recogniser begins
where one that has only heard synthetic voices ended, and learns from the other folds' clips mixed with synthetic words;
its threshold is chosen on speakers of those folds that it did not learn from. Every clip is tested once, as it is and
under noise of kinds that no training has: the simulation's test split's, and a kitchen (`--kitchen`) for every other
clip. Signal to noise is the ratio of mean powers over the whole second. Told are shares with 95 % intervals, by
bootstrap over speakers; `_silence_` and noise by clip.

    python benchmarks/speech_commands.py --data FOLDER [--kitchen FILE] [--folds 5] [--seeds 1] [--resume] [--real-only]

Needs espeak-ng. A fold's results are kept in `--out`; `--resume` goes on after the last one that was finished with the
same clips and recipe. About half an hour on one core for five folds of one seed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fusion.errors import FusionError
from fusion.evaluation.bootstrap import mean_interval
from fusion.recording.media.clips import Clip
from fusion.simulation import Split
from fusion.simulation.draws import Draws
from fusion.simulation.sound import background
from fusion.training.command_clips import (
    CLIP_SAMPLES,
    NONE,
    SILENCE,
    UNKNOWN,
    Fold,
    WordClips,
    find_clips,
    folds_of,
    load_clips,
    load_sound,
    synthetic_words,
)
from fusion.training.command_recogniser import CommandRecogniser, decide
from fusion.training.command_sounds import in_noise
from fusion.training.spoken_commands import (
    CommandRecipe,
    learn_fold,
    learn_synthetic,
    real_recipe,
    small_recipe,
    synthetic_recipe,
)
from fusion.types import BoolArray, Float32Array

LEVELS_DB = (None, 20.0, 10.0, 5.0, 0.0)
FALSE_ACCEPTS = 0.05
"""Share of other words that the threshold lets pass on its own speakers."""
NOISES = 96
"""Clips of nothing but noise a fold."""
FIRST_SEED = 800_000


@dataclass(frozen=True, slots=True)
class Tested:
    """What a fold's recogniser said: probabilities (levels, n, NONE + 1) of clips `rows`, and (NOISES, NONE + 1)."""

    rows: NDArray[np.int64]
    threshold: float
    words: Float32Array
    noise: Float32Array

    def save(self, path: Path) -> None:
        """Keep it as `.npz`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, rows=self.rows, threshold=self.threshold, words=self.words, noise=self.noise)

    @classmethod
    def load(cls, path: Path) -> Tested:
        """What `save` kept."""
        with np.load(path, allow_pickle=False) as file:
            return cls(file["rows"], float(file["threshold"]), file["words"], file["noise"])


def unheard_noise(index: int, kitchen: Float32Array | None) -> Float32Array:
    """A second of noise: of the kitchen when `index` is odd and there is one, else of the simulation's test split."""
    draws = Draws(FIRST_SEED + index, Split.TEST, stream=99)
    if kitchen is None or index % 2 == 0:
        return background(draws, CLIP_SAMPLES)
    windows = len(kitchen) // CLIP_SAMPLES
    start = index // 2 % windows * CLIP_SAMPLES
    return kitchen[start : start + CLIP_SAMPLES]


def test_fold(
    model: CommandRecogniser, threshold: float, clips: WordClips, fold: Fold, number: int, kitchen: Float32Array | None
) -> Tested:
    """What `model` makes of the test clips at every level, and of noise alone."""
    waves = [clips.waves[row] for row in fold.test]
    said = []
    for level in LEVELS_DB:
        heard = waves
        if level is not None:
            heard = [in_noise(w, unheard_noise(int(r), kitchen), level) for w, r in zip(waves, fold.test, strict=True)]
        said.append(model.probabilities(np.stack(heard)))
    noises = np.stack([unheard_noise(10_000 + number * NOISES + i, kitchen) for i in range(NOISES)])
    return Tested(fold.test, threshold, np.stack(said), model.probabilities(noises))


def run_key(clips: Sequence[Clip], recipes: Sequence[CommandRecipe], folds: int) -> str:
    """Names what a result was made of, in eight digits."""
    facts = {"clips": [str(c.path.name) for c in clips], "recipes": [asdict(r) for r in recipes], "folds": folds}
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]


def measure(arguments: argparse.Namespace, seed: int, found: Sequence[Clip], clips: WordClips) -> list[Tested]:
    """The folds of one seed, those kept already read back."""
    recipe = replace(real_recipe() if arguments.real_only else small_recipe(), seed=seed)
    first = replace(synthetic_recipe(), seed=seed)
    kitchen = load_sound(arguments.kitchen) if arguments.kitchen else None
    place = arguments.out / run_key(found, [recipe, first], arguments.folds)
    synthetic: WordClips | None = None
    start: CommandRecogniser | None = None
    tested = []
    for number, fold in enumerate(folds_of(found, arguments.folds, seed=0)):
        path = place / f"fold-{number}.npz"
        if not (arguments.resume and path.is_file()):
            if synthetic is None and not arguments.real_only:
                synthetic = synthetic_words(seed * 1_000_000)
                start = learn_synthetic(synthetic, first, place / "synthetic.safetensors")
            spotter = learn_fold(clips, fold, synthetic, recipe, start=start, false_accepts=FALSE_ACCEPTS)
            test_fold(spotter.model, spotter.threshold, clips, fold, number, kitchen).save(path)
        tested.append(Tested.load(path))
        tqdm.write(f"seed {seed}, fold {number + 1} of {arguments.folds}: {_summary(tested[-1], clips)}", sys.stderr)
    return tested


def table(tested: Sequence[Tested], clips: WordClips) -> str:
    """Two markdown tables of what all folds say together: words at every level, and what is no speech."""
    rows = np.concatenate([fold.rows for fold in tested])
    labels, speakers = clips.labels[rows], np.array(clips.speakers)[rows]
    kinds = np.array(clips.kinds)[rows]
    words, unknown, silence = labels != NONE, kinds == UNKNOWN, kinds == SILENCE
    lines = ["| sounds | right of the ten words | right, with the threshold | other words taken for a command |"]
    lines.append("|---|---|---|---|")
    for level, decibels in enumerate(LEVELS_DB):
        likeliest = np.concatenate([fold.words[level, :, :NONE].argmax(1) for fold in tested])
        heard = np.concatenate([decide(fold.words[level], fold.threshold) for fold in tested])
        cells = [
            _share(likeliest[words] == labels[words], speakers[words]),
            _share(heard[words] == labels[words], speakers[words]),
            _share(heard[unknown] != NONE, speakers[unknown]),
        ]
        lines.append(f"| {'clean' if decibels is None else f'{decibels:.0f} dB'} | {' | '.join(cells)} |")
    clean = np.concatenate([decide(fold.words[0], fold.threshold) for fold in tested])
    noise = np.concatenate([decide(fold.noise, fold.threshold) for fold in tested])
    quiet = _share(clean[silence] != NONE, np.flatnonzero(silence))
    lines += ["", "| no speech | clips | taken for a command |", "|---|---|---|"]
    lines.append(f"| `{SILENCE}` | {silence.sum()} | {quiet} |")
    lines.append(f"| noise alone | {len(noise)} | {_share(noise != NONE, np.arange(len(noise)))} |")
    return "\n".join(lines)


def _summary(fold: Tested, clips: WordClips) -> str:
    labels = clips.labels[fold.rows]
    right = (fold.words[:, labels != NONE, :NONE].argmax(2) == labels[labels != NONE]).mean(1)
    return f"right {', '.join(f'{share:.3f}' for share in right)}; threshold {fold.threshold:.2f}"


def _share(right: BoolArray, groups: NDArray[np.generic]) -> str:
    return str(mean_interval(right, groups))


def main() -> None:
    """Train and test every fold, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the twelve folders")
    parser.add_argument("--kitchen", type=Path, help="a sound file of real noise")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/speech_commands"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--real-only", action="store_true", help="learn from the real clips alone")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        found = find_clips(arguments.data)
        clips = load_clips(found)
        tested = [fold for seed in range(arguments.seeds) for fold in measure(arguments, seed, found, clips)]
    except FusionError as error:
        sys.exit(f"speech_commands: {error}")
    print(table(tested, clips))


if __name__ == "__main__":
    main()
