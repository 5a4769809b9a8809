"""The test scenes as late and badly calibrated sensors show them, and what frozen ears hear."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from fusion.task import Task
from fusion.training.disturbance import DISTURBANCES, disturbed_cache
from fusion.training.scene_features import open_cache
from fusion.training.sounds import heard_sounds, pooled_utterances, recorded_sounds, said_in
from subsets.files import save_heard


def prepare(arguments: argparse.Namespace) -> None:
    """Everything arms and measuring need besides the cached features."""
    from fusion.model.checkpoint import load_fusion
    from fusion.training.utterances import load_bank

    task, out = Task.load("yard"), arguments.out
    out.mkdir(parents=True, exist_ok=True)
    model = load_fusion(arguments.bundle)
    bank = load_bank(arguments.runs / "yard" / "utterances.npz", task)
    test = open_cache(arguments.test)
    if not (out / "pool.safetensors").is_file():
        save_heard(out / "pool", pooled_utterances(model.speech, bank, count=arguments.pool))
    said, sounds = said_in(test, model.spec.intents), recorded_sounds(test)
    if not (out / "recorded.safetensors").is_file():
        save_heard(out / "recorded", heard_sounds(model.speech, sounds, said))
    if not (out / "noisy.safetensors").is_file():
        rng = np.random.default_rng(31)
        noise = [bank.mix(None, rng).sound for _ in sounds]
        loud = [_at_zero_db(s, n) for s, n in zip(sounds, noise, strict=True)]
        save_heard(out / "noisy", heard_sounds(model.speech, loud, said))
    for how in DISTURBANCES:
        folder = arguments.out / f"features-{how.name}"
        disturbed_cache(how, arguments.scenes, test, folder, task, arguments.bundle, threads=arguments.threads)


def _at_zero_db(sound: Any, noise: Any) -> Any:
    """`noise` as strong as `sound` put over it."""
    level = np.sqrt(np.mean(sound**2) / max(float(np.mean(noise**2)), 1e-12))
    return np.clip(sound + noise * np.float32(level), -1, 1).astype(np.float32)
