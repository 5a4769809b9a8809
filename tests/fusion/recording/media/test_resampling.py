"""Resampling: tones keep their loudness and phase, and what is too high does not come back as something else."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.recording.media.sound_chunks import chunk_count, chunks_of


def resampled(samples, rate, block=4_096):
    blocks = [samples[i : i + block] for i in range(0, len(samples), block)]
    return np.concatenate([c.astype(float) for c in chunks_of(blocks, rate)]) / 32768


def tone(hertz, rate, seconds=1.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize("rate", [8_000, 11_025, 12_345, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("share", [0.01, 0.2, 0.42])
def test_a_tone_below_the_edge_is_the_same_tone(rate, share):
    hertz = share * min(rate, 16_000)
    found = resampled(tone(hertz, rate), rate)
    assert len(found) == 16_000
    inner = slice(400, -400)
    assert np.abs(found - tone(hertz, 16_000))[inner].max() < 1e-3


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("hertz", [8_050, 9_500, 11_000])
def test_a_tone_above_8_khz_is_gone(rate, hertz):
    assert np.abs(resampled(tone(hertz, rate), rate)[400:-400]).max() < 1e-3


@pytest.mark.parametrize("hertz", [500, 3_000])
def test_no_image_appears_when_the_rate_rises(hertz):
    found = resampled(tone(hertz, 8_000), 8_000)[800:-800]
    spectrum = np.abs(np.fft.rfft(found * np.hanning(len(found))))
    assert spectrum[round(4_200 * len(found) / 16_000) :].max() < 1e-3 * spectrum.max()


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([8_000, 11_025, 44_100, 12_345]), st.integers(0, 9_000), st.integers(1, 3_000))
def test_blocks_do_not_matter(rate, samples, block):
    noise = np.random.default_rng(samples).uniform(-1, 1, samples)
    chunks = list(chunks_of([noise[i : i + block] for i in range(0, samples, block)], rate))
    whole = list(chunks_of([noise], rate))
    assert len(chunks) == chunk_count(samples, rate)
    assert [c.tolist() for c in chunks] == [c.tolist() for c in whole]
    assert sum(map(len, chunks)) == -(-samples * 16_000 // rate)


def test_memory_does_not_grow_with_the_sound():
    silence = np.zeros(4_096)
    tracemalloc.start()
    samples = sum(len(chunk) for chunk in chunks_of((silence for _ in range(600)), 48_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert samples == -(-600 * 4_096 // 3)
    assert peak < 600 * silence.nbytes / 2
