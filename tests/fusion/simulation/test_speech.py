import numpy as np
import pytest

from fusion.errors import RecordingError, UnavailableError
from fusion.simulation import Split
from fusion.simulation.draws import Draws
from fusion.simulation.sound import TEST_NOISES, TRAIN_NOISES, background, to_pcm
from fusion.simulation.speech import Speaker, resample, say


def test_speech_is_16_khz_and_the_same_every_time():
    say.cache_clear()
    first = say("inspect the left drum", Speaker("en-us+m3", 150, 50))
    say.cache_clear()
    assert np.array_equal(first, say("inspect the left drum", Speaker("en-us+m3", 150, 50)))
    assert 0.8 * 16000 < len(first) < 2.5 * 16000
    assert np.abs(first).max() == pytest.approx(1.0)
    assert not np.array_equal(first[:8000], say("inspect the left drum", Speaker("en-us+f3", 150, 50))[:8000])


def test_resampling_keeps_a_tone():
    tone = np.sin(2 * np.pi * 440 * np.arange(22050) / 22050).astype(np.float32)
    moved = resample(tone, 22050, 16000)
    assert len(moved) == 16000
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert np.abs(moved - expected)[500:-500].max() < 0.01


def test_without_espeak_the_user_is_told_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="espeak-ng"):
        say("nobody can say this", Speaker("en-us", 150, 50))


@pytest.mark.parametrize("kind", [*TRAIN_NOISES, *TEST_NOISES])
def test_noises_are_alive(kind):
    split = Split.TEST if kind in TEST_NOISES else Split.TRAIN
    sound = {**TRAIN_NOISES, **TEST_NOISES}[kind](Draws(3, split), 16000)
    assert sound.shape == (16000,)
    assert np.isfinite(sound).all()
    assert sound.std() > 0


def test_background_has_unit_power_and_pcm_is_clipped():
    sound = background(Draws(5, Split.TRAIN), 16000)
    assert np.sqrt(np.mean(sound**2)) == pytest.approx(1.0, abs=1e-3)
    assert to_pcm(np.float32([0, 1, -2, 2])).tolist() == [0, 32767, -32768, 32767]


def test_noise_files_are_used_and_an_empty_folder_is_named(tmp_path):
    import soundfile

    asking = next(seed for seed in range(10) if Draws(seed, Split.TRAIN).chance(0.5))
    with pytest.raises(RecordingError, match=str(tmp_path)):
        background(Draws(asking, Split.TRAIN), 1600, tmp_path)
    tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 16000).astype(np.float32)
    soundfile.write(tmp_path / "tone.wav", tone, 16000)
    heard = [background(Draws(seed, Split.TRAIN), 16000, tmp_path) for seed in range(10)]
    peaks = [int(np.abs(np.fft.rfft(sound)).argmax()) for sound in heard]
    assert 2 <= peaks.count(1000) <= 9
