import numpy as np

from fusion.simulation import Split
from fusion.simulation.commands import _TALK
from fusion.simulation.draws import Draws, bin_parity
from fusion.simulation.noise import draw_texture, texture
from fusion.simulation.sound import TEST_NOISES, TRAIN_NOISES
from fusion.simulation.speech import TEST_VOICES, TRAIN_VOICES, draw_speaker
from fusion.simulation.stock import LIQUIDS, make

SEEDS = range(150)


def test_held_out_intervals_never_meet():
    numbers = {split: [Draws(seed, split).held(2.0, 5.0) for seed in SEEDS] for split in Split}
    for split, drawn in numbers.items():
        assert {bin_parity(number, 2.0, 5.0) for number in drawn} == {1 if split is Split.TEST else 0}
        assert 2.0 <= min(drawn) < 2.6 or split is Split.TEST
        assert len({int((number - 2.0) / 3.0 * 8) for number in drawn}) == 4
    gap = np.abs(np.subtract.outer(numbers[Split.TRAIN], numbers[Split.TEST])).min()
    assert gap > 0.03


def test_held_out_lists_never_meet():
    for options in (LIQUIDS, _TALK, range(16)):
        train = {Draws(seed, Split.TRAIN).held_choice(options) for seed in SEEDS}
        test = {Draws(seed, Split.TEST).held_choice(options) for seed in SEEDS}
        assert not train & test
        assert train | test == set(options)


def test_voices_speeds_and_noises_never_meet():
    assert not set(TRAIN_VOICES) & set(TEST_VOICES)
    assert not {voice.partition("+")[0] for voice in TRAIN_VOICES} & {voice.partition("+")[0] for voice in TEST_VOICES}
    assert not set(TRAIN_NOISES) & set(TEST_NOISES)
    train, test = ({draw_speaker(Draws(seed, split)) for seed in SEEDS} for split in (Split.TRAIN, Split.TEST))
    assert not {speaker.speed for speaker in train} & {speaker.speed for speaker in test}
    assert not {speaker.pitch for speaker in train} & {speaker.pitch for speaker in test}


def test_shapes_and_textures_never_meet():
    def radii(split):
        return [make(Draws(seed, split), "drum", "ok").paint.radius for seed in range(25)]

    def textures(split):
        return {draw_texture(Draws(seed, split)) for seed in SEEDS}

    assert {bin_parity(radius, 0.27, 0.33) for radius in radii(Split.TRAIN) + radii(Split.VAL)} == {0}
    assert {bin_parity(radius, 0.27, 0.33) for radius in radii(Split.TEST)} == {1}
    assert not textures(Split.TRAIN) & textures(Split.TEST)


def test_validation_is_drawn_like_training_from_other_numbers():
    train, val = Draws(4, Split.TRAIN), Draws(4, Split.VAL)
    assert train.parity == val.parity
    assert train.uniform(0, 1) != val.uniform(0, 1)


def test_textures_tile_and_are_normal():
    field = texture(3)
    assert field.dtype == np.float32
    assert abs(field.mean()) < 1e-3
    assert abs(field.std() - 1) < 1e-3
    seam, inner = np.abs(field[:, 0] - field[:, -1]).mean(), np.abs(field[:, 1] - field[:, 0]).mean()
    assert seam < 2 * inner
