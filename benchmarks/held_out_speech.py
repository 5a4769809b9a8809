"""What the device's ears make of people and noises they never met.

Commands and other talk of the yard, in voices and noises of the training split or of the test split, mixed as the yard
mixes them (0 to 20 dB). Told are the shares, with 95 % intervals, of intents that are right, of commands about an
object with every word right and no other, and of other talk that is taken for a command.

    python benchmarks/held_out_speech.py [--weights BUNDLE ...] [--count 600]

Needs espeak-ng. Several bundles are measured on the same sounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from fusion.evaluation.bootstrap import mean_interval
from fusion.model.build import FusionModel
from fusion.model.checkpoint import load_fusion
from fusion.preparation import WINDOW_SAMPLES
from fusion.simulation import Split
from fusion.simulation.commands import Command, draw_command
from fusion.simulation.draws import Draws
from fusion.simulation.sound import background, speech_gain
from fusion.simulation.speech import draw_speaker, say
from fusion.task import Task
from fusion.training.utterances import phrases_of, spoken_words
from fusion.types import BoolArray, Float32Array

FIRST_SEED = 700_000
BATCH = 50


def heard(index: int, phrase: str, voices: Split, noises: Split) -> tuple[Command, Float32Array]:
    """One utterance and three seconds of sound (WINDOW_SAMPLES,) in -1..1 that end up to a second after it."""
    draws = Draws(FIRST_SEED + index, voices, stream=95)
    command = draw_command(draws, [("plain", phrase, 1)])
    wave = say(command.text, draw_speaker(draws))[-(WINDOW_SAMPLES - 1600) :]
    level, noise_level = speech_gain(draws, wave)
    sound = background(Draws(FIRST_SEED + index, noises, stream=96), WINDOW_SAMPLES) * np.float32(noise_level)
    start = max(0, WINDOW_SAMPLES - len(wave) - round(draws.uniform(0.0, 1.0) * 16000))
    sound[start : start + len(wave)] += wave * np.float32(level)
    return command, np.asarray(np.clip(sound, -1.0, 1.0), np.float32)


@torch.inference_mode()
def understood(
    model: FusionModel, commands: Sequence[Command], sounds: Sequence[Float32Array]
) -> tuple[BoolArray, BoolArray]:
    """Which intents (n,) are right, and of which utterances every word is."""
    spec = model.spec
    intents, words = [], []
    for start in range(0, len(sounds), BATCH):
        _, _, word, intent, _ = model.speech.hear(torch.from_numpy(np.stack(sounds[start : start + BATCH])))
        intents.append(intent.argmax(1).numpy())
        words.append(word.sigmoid().numpy() > 0.5)
    said = np.stack([spoken_words(command.text, spec.words) > 0 for command in commands])
    meant = np.array([spec.intents.index(command.intent) for command in commands])
    return np.concatenate(intents) == meant, (np.concatenate(words) == said).all(1)


def main() -> None:
    """Make the sounds, and print a table a bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, nargs="*", help="bundle folders; default: the package's own")
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    own = Path(str(resources.files("fusion").joinpath("weights", "yard")))
    models = {folder: load_fusion(folder).eval() for folder in arguments.weights or [own]}
    phrases = phrases_of(Task.load("yard"))
    print("| bundle | voices | noises | intent right | all words of a command right | talk taken for a command |")
    print("|---|---|---|---|---|---|")
    for voices in (Split.TRAIN, Split.TEST):
        for noises in (Split.TRAIN, Split.TEST):
            drawn = [heard(i, phrases[i % len(phrases)], voices, noises) for i in range(arguments.count)]
            commands, sounds = [command for command, _ in drawn], [sound for _, sound in drawn]
            asking = np.array([command.intent == "inspect" for command in commands])
            talk = np.array([command.intent == "none" for command in commands])
            for folder, model in models.items():
                intent, words = understood(model, commands, sounds)
                cells = [_share(intent), _share(words[asking]), _share(~intent[talk])]
                print(f"| {folder.name} | {voices} | {noises} | {' | '.join(cells)} |", flush=True)


def _share(right: BoolArray) -> str:
    return str(mean_interval(right, np.arange(len(right))))


if __name__ == "__main__":
    main()
