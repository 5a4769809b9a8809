"""Rooms and noises are all different, and none is louder than asked."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.simulation.commands import _TALK
from fusion.simulation.speech import TEST_VOICES
from fusion.training.acoustics import drawn_noise, through_room
from fusion.training.chatter import chatter
from fusion.training.utterances import _ACCENTS, _TIMBRES


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_noise_has_unit_power_and_is_drawn_anew(seed):
    noise, other = (drawn_noise(np.random.default_rng(s), 16000) for s in (seed, seed + 1))
    assert noise.shape == (16000,)
    assert abs(np.sqrt(np.mean(noise.astype(np.float64) ** 2)) - 1) < 1e-3
    assert not np.allclose(noise, other)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 48000))
def test_a_room_keeps_length_and_power(seed, count):
    wave = np.random.default_rng(1).normal(0, 0.2, count).astype(np.float32)
    heard = through_room(wave, np.random.default_rng(seed))
    assert heard.shape == wave.shape
    assert np.isfinite(heard).all()
    if count:
        power, kept = (np.sqrt(np.mean(x.astype(np.float64) ** 2)) for x in (heard, wave))
        assert abs(power - kept) < 1e-3 * kept + 1e-6


def test_no_voice_of_the_test_split_is_heard_in_training():
    accents, timbres = {v.partition("+")[0] for v in TEST_VOICES}, {v.partition("+")[2] for v in TEST_VOICES}
    assert accents.isdisjoint(_ACCENTS)
    assert timbres.isdisjoint(_TIMBRES)
    assert len(_TIMBRES) > 40


def test_chatter_says_nothing_that_the_test_split_says():
    rng = np.random.default_rng(3)
    said = [chatter(rng) for _ in range(3000)]
    small = {"the", "a", "and", "at", "on", "in", "my", "you", "is", "will", "who", "has"}
    held_out = {word for sentence in _TALK[1::2] for word in sentence.split()} - small
    assert held_out.isdisjoint(word for sentence in said for word in sentence.split())
    assert len(set(said)) > 2500
    assert all(2 <= len(sentence.split()) <= 12 for sentence in said)
