"""What is said, when, and in what noise."""

from pathlib import Path

import numpy as np
import pytest

from fusion.simulation.commands import Command
from fusion.task import Task
from fusion.training.utterances import (
    Mixed,
    UtteranceBank,
    load_bank,
    phrases_of,
    spoken_words,
    vocabulary,
    word_frames,
)


def _bank() -> UtteranceBank:
    tone = (np.sin(np.arange(16000) * 0.3) * 30000).astype(np.int16)
    commands = (Command("inspect the left drum", "inspect"), Command("stop", "stop"))
    noises = np.random.default_rng(1).normal(0, 3000, (2, 48000)).astype(np.int16)
    return UtteranceBank(np.stack([tone, tone]), np.array([16000, 4000], np.int32), commands, noises)


def test_the_utterance_is_where_the_mix_says() -> None:
    bank = _bank()
    for seed in range(8):
        mixed = bank.mix(1, np.random.default_rng(seed))
        assert mixed.sound.shape == (48000,)
        assert mixed.sound.dtype == np.float32
        assert abs(mixed.length - 4000) < 700
        inside = mixed.sound[mixed.start : mixed.start + mixed.length]
        assert 0 <= mixed.start <= 48000 - mixed.length
        outside = np.concatenate([mixed.sound[: mixed.start], mixed.sound[mixed.start + mixed.length :]])
        assert inside.std() > outside.std()
    quiet = bank.mix(None, np.random.default_rng(1))
    assert (quiet.length, quiet.sound.std() < 0.2) == (0, True)


def test_the_same_seed_mixes_the_same() -> None:
    one, other = (_bank().mix(0, np.random.default_rng(5)).sound for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_words_are_placed_in_proportion_to_their_letters() -> None:
    frames = word_frames("stop now", ["now", "stop"], Mixed(np.zeros(0, np.float32), 6400, 12800), 75, 640)
    stop, now = np.flatnonzero(frames[:, 1] == 1), np.flatnonzero(frames[:, 0] == 1)
    assert 10 <= stop.min() < stop.max() < now.min() + 2 < now.max() <= 32
    assert (frames[:8] == 0).all()
    assert (frames[40:] == 0).all()
    assert -1 in frames[:, 0]


def test_common_words_in_order() -> None:
    assert vocabulary(["the drum", "the left drum", "the cone"], least=2) == ("drum", "the")
    assert spoken_words("Inspect the drum", ["drum", "left"]).tolist() == [1.0, 0.0]


def test_only_conditions_an_object_can_have_are_named() -> None:
    phrases = phrases_of(Task.load("yard"))
    assert "the leaking drum" in phrases
    assert "the leaking person" not in phrases
    assert "the person on the left" in phrases


def test_a_kept_bank_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "bank.npz"
    bank = _bank()
    said = np.array([(c.text, c.intent) for c in bank.commands])
    np.savez(path, waves=bank.waves, lengths=bank.lengths, said=said, noises=bank.noises)
    again = load_bank(path, Task.load("yard"))
    assert again.commands == bank.commands
    np.testing.assert_array_equal(again.waves, bank.waves)


@pytest.mark.parametrize("index", [0, 1])
def test_speech_is_never_clipped_out_of_range(index: int) -> None:
    sounds = [_bank().mix(index, np.random.default_rng(seed)).sound for seed in range(5)]
    assert max(float(np.abs(s).max()) for s in sounds) <= 1.0
