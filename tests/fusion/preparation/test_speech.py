import io
import shutil
import subprocess
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import InputError
from fusion.preparation import SAMPLE_RATE_HZ, speech_present, speech_window

RNG = np.random.default_rng(11)


def noise(seconds: float, amplitude: float):
    return (RNG.normal(0, amplitude, int(seconds * SAMPLE_RATE_HZ))).astype(np.int16)


def babble(seconds: float, amplitude: float):
    """A voice-like sound: harmonics of 140 Hz in syllables of 200 ms."""
    t = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tone = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * 2.5 * t), 0, None)
    return (amplitude * tone * syllables).astype(np.int16)


@given(st.integers(0, 100), st.integers(1, 60))
def test_the_window_is_the_last_samples_padded_on_the_left(count, samples):
    pcm = np.arange(1, count + 1, dtype=np.int16) * 100
    window = speech_window(pcm, samples)
    assert window.shape == (1, samples)
    assert window.dtype == np.float32
    kept = min(count, samples)
    assert np.array_equal(window[0, samples - kept :], (pcm[count - kept :] / 32768).astype(np.float32))
    assert not window[0, : samples - kept].any()


def test_full_scale_stays_within_one():
    assert speech_window(np.array([-32768, 32767], np.int16), 2).tolist() == [[-1.0, 32767 / 32768]]


def test_other_sounds_are_refused():
    with pytest.raises(InputError, match="mono int16"):
        speech_window(np.zeros((10, 2), np.int16))
    with pytest.raises(InputError, match="mono int16"):
        speech_window(np.zeros(10, np.float32))


@pytest.mark.parametrize("amplitude", [0, 3, 60, 2000])
def test_silence_and_steady_noise_are_no_speech(amplitude):
    assert not speech_present(noise(3, amplitude))


def test_a_hum_below_the_voice_is_no_speech():
    t = np.arange(48_000) / SAMPLE_RATE_HZ
    hum = 8000 * np.sin(2 * np.pi * 50 * t) * (1 + np.sin(2 * np.pi * 1.5 * t))
    assert not speech_present(hum.astype(np.int16) + noise(3, 30))


@pytest.mark.parametrize("level", [300, 3000])
def test_a_voice_over_noise_is_speech(level):
    sound = noise(3, level / 10).astype(np.int32)
    sound[16_000:32_000] += babble(1, level)
    assert speech_present(sound.astype(np.int16))


def test_a_click_and_a_snippet_are_no_speech():
    sound = noise(3, 30)
    sound[20_000:20_100] = 20_000
    assert not speech_present(sound)
    assert not speech_present(babble(0.1, 3000))
    assert not speech_present(np.zeros(0, np.int16))


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed: make system")
@pytest.mark.parametrize("snr_db", [20, 5])
def test_a_spoken_command_is_speech_even_in_noise(snr_db):
    spoken = subprocess.run(
        ["espeak-ng", "--stdout", "check the left drum"], capture_output=True, check=True, timeout=20
    ).stdout
    with wave.open(io.BytesIO(spoken)) as sound:
        voice = np.frombuffer(sound.readframes(1 << 22), np.int16).astype(np.float64)
        rate = sound.getframerate()
    at = np.arange(int(len(voice) * SAMPLE_RATE_HZ / rate)) * rate / SAMPLE_RATE_HZ
    voice = np.interp(at, np.arange(len(voice)), voice) * 0.2
    mixed = RNG.normal(0, np.sqrt(np.square(voice).mean()) * 10 ** (-snr_db / 20), 48_000)
    mixed[-len(voice) - 4000 :][: len(voice)] += voice[:44_000]
    assert speech_present(mixed.astype(np.int16))
