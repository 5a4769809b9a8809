"""Folds borrow no speaker, sounds are as loud as asked, and what is told of the commands is what was scored."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import InputError, UnavailableError
from fusion.simulation import Split
from fusion.simulation.draws import Draws
from fusion.training.spoken.clips import (
    CLIP_SAMPLES,
    COMMANDS,
    FOLDERS,
    NONE,
    OTHER_WORDS,
    SILENCE,
    UNKNOWN,
    WordClips,
    folds_of,
)
from fusion.training.spoken.learning import CommandRecipe, Effort, candidates, train_commands
from fusion.training.spoken.pack import CommandPack, unit_power
from fusion.training.spoken.recogniser import CommandRecogniser, EarSizes, Masking, decide
from fusion.training.spoken.runs import Told, Where, _bank
from fusion.training.spoken.scores import LEVELS_DB, SCORES, FoldScores
from fusion.training.spoken.search import Plan, run_all, validation
from fusion.training.spoken.sounds import Acoustics, SoundBank, _resampled, in_noise, placed, training_noises
from fusion.training.spoken.table import Heard, choose_threshold, fold_threshold, read_scores, table, tables
from fusion.training.spoken.voices import _flite, _trimmed

SMALL = CommandRecipe(EarSizes(width=16, heads=2, layers=1, hidden=16, kernel=3), Masking(), batch=4, steps=2)


def clips_of(count, *, seed=0, speakers=12, prefix="s"):
    """Noise clips of all twelve folders in turn."""
    rng = np.random.default_rng(seed)
    kinds = tuple(FOLDERS[i % len(FOLDERS)] for i in range(count))
    labels = np.array([COMMANDS.index(kind) if kind in COMMANDS else NONE for kind in kinds], np.int64)
    pcm = rng.integers(-9000, 9000, (count, CLIP_SAMPLES)).astype(np.float32) / np.float32(32768)
    who = tuple(f"{prefix}{i // 4 % speakers}" for i in range(count))
    return WordClips(tuple(pcm), labels, kinds, who, tuple(f"{prefix}-{i}" for i in range(count)))


@pytest.fixture(scope="module")
def pack():
    real = clips_of(96, speakers=24)
    other = clips_of(24, seed=1, prefix="v")
    rng = np.random.default_rng(2)
    noises, rooms = (rng.normal(0, 1, (n, size)).astype(np.float32) for n, size in ((5, CLIP_SAMPLES), (3, 800)))
    rooms /= np.sqrt(np.square(rooms).sum(1, keepdims=True))
    folds = tuple(folds_of(real.speakers, 2, seed=0, validation=3))
    digits = replace(clips_of(6, seed=3, prefix="d"), labels=np.full(6, NONE, np.int64), kinds=("3",) * 6)
    return CommandPack(
        real, folds, other, other.take([10, 22]), digits, unit_power(noises), unit_power(noises[::-1]), rooms
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=80, max_size=200), st.integers(2, 5), st.integers(0, 9))
def test_every_clip_is_tested_once_and_no_speaker_is_in_two_parts(who, folds, seed):
    speakers = [f"s{number}" for number in who]
    if len(set(speakers)) < 3 * folds:
        return
    found = folds_of(speakers, folds, seed, validation=3)
    assert sorted(np.concatenate([fold.test for fold in found])) == list(range(len(speakers)))
    for fold in found:
        parts = [{speakers[row] for row in part} for part in (fold.train, fold.validation, fold.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == len(set(speakers))
        assert len(fold.train) + len(fold.validation) + len(fold.test) == len(speakers)
    assert all(np.array_equal(a.test, b.test) for a, b in zip(found, folds_of(speakers, folds, seed, 3), strict=True))


def test_too_few_speakers_or_folds_are_refused():
    with pytest.raises(InputError, match="2 speakers are too few"):
        folds_of(["a", "a", "b"], 2, seed=0)
    with pytest.raises(InputError, match="at least 2"):
        folds_of(["a", "b"], 1, seed=0)


def test_no_other_word_is_a_command_and_none_is_twice():
    assert set(OTHER_WORDS).isdisjoint({*COMMANDS, "know", "write", "upp"})
    assert len(set(OTHER_WORDS)) == len(OTHER_WORDS)


@settings(max_examples=30, deadline=None)
@given(st.floats(-10, 40), st.floats(0.001, 1), st.integers(0, 1000))
def test_noise_lies_as_far_below_a_sound_as_asked(level, loudness, seed):
    rng = torch.Generator().manual_seed(seed)
    waves, noises = (torch.randn(3, 4000, generator=rng) * size for size in (loudness, 0.3))
    mixed = in_noise(waves, noises, torch.full((3,), level))
    added = (mixed.double() - waves.double()).square().mean(1)
    found = 10 * torch.log10(waves.double().square().mean(1) / added)
    assert torch.allclose(found, torch.full_like(found, level), atol=0.05)


def test_noise_under_nothing_is_the_noise_alone():
    noise = torch.randn(2, 100)
    mixed = in_noise(torch.zeros(2, 100), noise, torch.tensor([20.0, 0.0]))
    assert torch.allclose(mixed, noise / noise.square().mean(1, keepdim=True).sqrt(), atol=1e-5)


def test_a_sound_at_its_own_speed_is_itself_and_a_faster_one_is_higher():
    time = torch.arange(CLIP_SAMPLES) / CLIP_SAMPLES
    wave = torch.sin(2 * torch.pi * 400 * time)[None]
    same = _resampled(wave, torch.ones(1), torch.zeros(1))
    assert torch.allclose(same[:, 1:-1], wave[:, 1:-1], atol=1e-4)
    moved = _resampled(wave, torch.ones(1), torch.full((1,), 0.1))
    assert torch.allclose(moved[:, 1600:-1], wave[:, :-1601], atol=1e-2)
    fast = torch.fft.rfft(_resampled(wave, torch.full((1,), 1.25), torch.zeros(1))).abs()
    assert int(fast.argmax()) == 500


def test_a_pack_comes_back_as_it_was(pack, tmp_path):
    pack.save(tmp_path)
    back = CommandPack.load(tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(pack.real.waves, back.real.waves, strict=True))
    for name in ("real", "voices", "negatives", "digits"):
        mine, its = getattr(pack, name), getattr(back, name)
        assert (mine.kinds, mine.speakers, mine.names) == (its.kinds, its.speakers, its.names)
        assert np.array_equal(mine.labels, its.labels)
        assert all(np.abs(a - b).max() < 0.03 for a, b in zip(mine.waves, its.waves, strict=True))
    for one, other in zip(pack.folds, back.folds, strict=True):
        assert np.array_equal(one.train, other.train)
        assert np.array_equal(one.test, other.test)
    assert np.allclose(np.square(back.noises).mean(1), 1, atol=1e-3)
    assert np.allclose(np.square(back.rooms).sum(1), 1, atol=1e-3)


def test_a_pack_that_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match="pack it again"):
        CommandPack.load(tmp_path)


def test_a_fold_hears_no_clip_of_its_validation_or_test_speakers(pack, tmp_path):
    pack.save(tmp_path)
    for number, fold in enumerate(pack.folds):
        bank = _bank(Where(tmp_path, tmp_path, "cpu"), number)
        heard = {row.numpy().tobytes() for row in bank.waves}
        assert all(pack.real.waves[row].tobytes() in heard for row in fold.train)
        held_out = [pack.real.waves[row] for row in (*fold.validation, *fold.test)]
        assert heard.isdisjoint({wave.tobytes() for wave in held_out})
        quiet = unit_power(pack.real.take(fold.train).silences())
        noises = {noise.tobytes() for noise in bank.noises.numpy()}
        assert all(noise.tobytes() in noises for noise in quiet)
        assert noises.isdisjoint({noise.tobytes() for noise in unit_power(held_out)})


def test_a_batch_has_the_labels_of_its_sounds(pack):
    waves = tuple(np.full(8000, 0.01 * (label + 1), np.float32) for label in pack.voices.labels)
    bank = SoundBank([replace(pack.voices, waves=waves)], pack.noises, pack.rooms, torch.device("cpu"))
    plain = Acoustics(speed=(1, 1), shift_s=0, room=0, noise=0, bare_noise=0)
    sounds, shares = bank.batch(64, plain, torch.Generator().manual_seed(0))
    assert torch.allclose(sounds.amax(1), 0.01 * (shares.argmax(1) + 1).float(), atol=1e-5)
    assert torch.equal(shares.sum(1), torch.ones(64))
    assert 4 < shares[:, NONE].sum() < 30


def test_mixed_sounds_have_mixed_labels(pack):
    bank = SoundBank([pack.voices], pack.noises, pack.rooms, torch.device("cpu"))
    sounds, shares = bank.batch(32, Acoustics(mixup=1.0), torch.Generator().manual_seed(0))
    assert torch.isfinite(sounds).all()
    assert torch.allclose(shares.sum(1), torch.ones(32))
    assert ((shares > 0).sum(1) == 2).any()


def test_noises_to_learn_from_are_as_loud_as_each_other(pack):
    noises = training_noises(pack.noises, pack.real, pack.voices, 0)
    assert len(noises) > len(pack.noises) + 2 * len(pack.real.silences())
    assert np.allclose(np.square(noises).mean(1), 1, atol=1e-3)


@pytest.mark.parametrize("name", sorted(candidates()))
def test_loudness_changes_nothing_and_probabilities_are_such(name):
    torch.manual_seed(0)
    recipe = candidates()[name]
    model = CommandRecogniser(replace(recipe.ears, width=16, hidden=16), recipe.masking)
    sounds = 0.1 * torch.randn(3, CLIP_SAMPLES)
    found = model.probabilities(sounds)
    assert found.shape == (3, NONE + 1)
    assert np.allclose(found.sum(1), 1, atol=1e-5)
    assert np.allclose(found, model.probabilities(sounds * 3), atol=1e-4)


def test_the_same_seed_and_steps_give_the_same_recogniser(pack):
    bank = SoundBank([pack.real, pack.voices], pack.noises, pack.rooms, torch.device("cpu"))
    one, other = (train_commands(bank, SMALL, Effort(2, 1000.0), seed=4) for _ in range(2))
    assert one[1] == other[1] == 2
    assert all(torch.equal(a, b) for a, b in zip(one[0].parameters(), other[0].parameters(), strict=True))
    later, _ = train_commands(bank, SMALL, Effort(1, 1000.0), 5, start=one[0])
    assert any(not torch.equal(a, b) for a, b in zip(one[0].parameters(), later.parameters(), strict=True))


def test_training_ends_with_its_time(pack):
    bank = SoundBank([pack.real], pack.noises, pack.rooms, torch.device("cpu"))
    _, steps = train_commands(bank, SMALL, Effort(10**9, 0.2), seed=0)
    assert 0 < steps < 1000


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=60), st.floats(0, 0.9))
def test_a_threshold_lets_no_more_pass_than_allowed(likeliest, share):
    scores = np.zeros((len(likeliest), NONE + 1), np.float32)
    scores[:, 3] = likeliest
    threshold = choose_threshold(scores, share)
    assert (decide(scores, threshold) != NONE).mean() <= share
    assert threshold in scores[:, :NONE].max(1)


def test_without_anything_to_choose_by_the_threshold_is_a_half():
    assert choose_threshold(np.zeros((0, NONE + 1), np.float32), 0.05) == 0.5


def scores_of(pack, number, right):
    """Scores that are sure of the right label where `right` (n,) is true, and of the next elsewhere."""
    fold = pack.folds[number]

    def sure(labels):
        return np.eye(NONE + 1, dtype=np.float32)[labels]

    labels = np.where(right, pack.real.labels[fold.test], (pack.real.labels[fold.test] + 1) % (NONE + 1))
    levels = len(LEVELS_DB)
    noises = np.arange(number, len(pack.test_noises), len(pack.folds))
    return FoldScores(
        np.tile(sure(labels), (levels, 1, 1)),
        np.tile(0.4 * sure(np.zeros(len(fold.validation), np.int64)), (levels, 1, 1)),
        sure(np.full(len(noises), NONE)),
        noises,
        sure(np.full(len(pack.digits), 2)),
    )


def test_the_table_tells_shares_of_clips(pack):
    heard = []
    for number, fold in enumerate(pack.folds):
        right = np.array([pack.real.kinds[row] not in ("yes", UNKNOWN) for row in fold.test])
        scores = scores_of(pack, number, right)
        heard.append(Heard(fold, scores, fold_threshold(scores, fold, pack.real)))
    assert [one.threshold for one in heard] == [pytest.approx(0.4)] * 2
    told = table(heard, pack.real, pack.digits)
    clean, other = (next(line for line in told.splitlines() if line.startswith(f"| {at}")) for at in ("clean", "0 dB"))
    assert clean.split("|")[2:] == other.split("|")[2:]
    assert clean.count("0.900 [") == 2
    assert "1.000 [1.000, 1.000]" in clean
    assert f"| `{SILENCE}`, clean | 8 | 0.000" in told
    assert "| noise alone | 5 | 0.000" in told
    assert "| digits of another data set | 6 | 1.000" in told


def test_test_clips_do_not_move_a_threshold(pack):
    fold = pack.folds[0]
    one, other = (scores_of(pack, 0, np.full(len(fold.test), right)) for right in (True, False))
    assert not np.array_equal(one.words, other.words)
    assert fold_threshold(one, fold, pack.real) == fold_threshold(other, fold, pack.real)


def test_recipes_are_compared_by_their_mean_over_folds():
    told = [Told("", name, 1, 1.0, right, 1) for name, right in (("a", 50.0), ("a", 70.0), ("b", 61.0), ("b", None))]
    assert validation(told) == {"a": 60.0, "b": 61.0}


@given(st.floats(60, 600), st.integers(1, 4), st.integers(1, 6), st.integers(1, 4), st.integers(2, 5))
def test_all_that_is_planned_fits_in_the_time(seconds, seeds, jobs, recipes, folds):
    plan = Plan(seconds, seeds, jobs)
    unit = plan.unit_seconds([SMALL] * recipes, folds)
    stages = -(-recipes // jobs) + -(-(seeds - 1) // jobs)
    assert (SMALL.first * stages + -(-folds // jobs) * (recipes + seeds - 1)) * unit <= seconds
    effort = plan.effort(SMALL, unit, first=True)
    assert (effort.steps, effort.seconds) == (1, pytest.approx(SMALL.first * unit))


def test_folds_are_trained_scored_and_told(pack, tmp_path):
    pack.save(tmp_path / "pack")
    where = Where(tmp_path / "pack", tmp_path / "out" / "weights", "cpu")
    run_all(where, tmp_path / "out", Plan(600, seeds=2, jobs=1, steps=1), {"small": SMALL})
    heard = read_scores(tmp_path / "out" / SCORES, pack.folds, pack.real)
    rows = np.concatenate([one.fold.test for one in heard])
    assert np.array_equal(np.bincount(rows), np.full(len(pack.real), 2))  # once a seed
    assert tables(tmp_path / "pack", tmp_path / "out").count("\n") == 13
    with pytest.raises(InputError, match="other folds"):
        read_scores(tmp_path / "out" / SCORES, pack.folds[:1], pack.real)
    with pytest.raises(InputError, match="train first"):
        read_scores(tmp_path / SCORES, pack.folds, pack.real)


def test_a_missing_program_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match="flite"):
        _flite("yes", Draws(0, Split.TRAIN, stream=97))


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_flite_says_a_word_within_a_second():
    voice, wave = _flite("yes", Draws(0, Split.TRAIN, stream=97))
    assert voice.startswith("flite ")
    assert 2000 < len(wave) <= CLIP_SAMPLES
    assert np.abs(wave).max() == pytest.approx(1, abs=0.1)


def test_a_file_of_nothing_is_no_sound():
    assert len(_trimmed(bytes(44) + b"data" + bytes(40))) == 0


def test_short_sounds_stand_in_the_middle():
    sound = placed(np.ones(3, np.float32))
    assert sound.shape == (CLIP_SAMPLES,)
    assert list(np.flatnonzero(sound)) == [7998, 7999, 8000]
