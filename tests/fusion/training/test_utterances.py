"""What is said, when, and in what noise."""

from pathlib import Path

import numpy as np
import pytest

from fusion.simulation.commands import Command
from fusion.simulation.draws import Draws
from fusion.simulation.sample import Split
from fusion.simulation.speech import draw_speaker
from fusion.task import Task
from fusion.training import utterances
from fusion.training.utterances import (
    Mixed,
    UtteranceBank,
    any_speaker,
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


def test_a_kept_bank_is_read_back_and_made_anew_when_it_is_torn_or_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, bank, made = tmp_path / "runs" / "bank.npz", _bank(), []

    def make(task: Task, count: int, noises: int, seed: int) -> UtteranceBank:
        made.append((task.name, count, noises, seed))
        return bank

    monkeypatch.setattr(utterances, "make_bank", make)
    yard = Task.load("yard")
    for _ in range(2):
        again = load_bank(path, yard)
        assert [(c.text, c.intent) for c in again.commands] == [(c.text, c.intent) for c in bank.commands]
        np.testing.assert_array_equal(again.waves, bank.waves)
        np.testing.assert_array_equal(again.noises, bank.noises)
    assert len(made) == 1
    whole = path.read_bytes()
    for torn in (whole[: len(whole) // 2], b"", b"PK"):
        path.write_bytes(torn)
        load_bank(path, yard)
        assert path.read_bytes()[:4] == whole[:4]
        assert len(path.read_bytes()) == len(whole)
    assert len(made) == 4
    fewer = yard.model_copy(update={"classes": yard.classes[:2]})
    for task, options in ((yard, {"count": 5}), (yard, {"noises": 5}), (yard, {"seed": 5}), (fewer, {})):
        before = len(made)
        for _ in range(2):
            load_bank(path, task, **options)
        assert len(made) == before + 1
    np.savez(path, waves=bank.waves, lengths=bank.lengths, said=np.array([("a", "none")]), noises=bank.noises)
    assert len(load_bank(path, yard).commands) == 2
    assert [file.name for file in path.parent.iterdir()] == ["bank.npz"]


def test_no_speaker_has_a_speed_or_pitch_of_the_test_split() -> None:
    drawn = [any_speaker(Draws(seed, Split.TRAIN, stream=91)) for seed in range(3000)]
    held = [draw_speaker(Draws(seed, Split.TEST)) for seed in range(3000)]
    for kind, low, high in (("speed", 110, 204), ("pitch", 15, 82)):
        heard, never = ({getattr(speaker, kind) for speaker in group} for group in (drawn, held))
        assert not heard & never
        assert (min(heard), max(heard)) == (low, high)


@pytest.mark.parametrize("index", [0, 1])
def test_speech_is_never_clipped_out_of_range(index: int) -> None:
    sounds = [_bank().mix(index, np.random.default_rng(seed)).sound for seed in range(5)]
    assert max(float(np.abs(s).max()) for s in sounds) <= 1.0
