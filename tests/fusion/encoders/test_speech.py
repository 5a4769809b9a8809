"""The Fourier transform inside the graph is a Fourier transform, and loudness says nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

import fusion
from fusion.encoders.speech import HOP, WINDOW, LogMel, SpeechEncoder, mel_filters
from fusion.engines import load_engine
from fusion.errors import ConfigError
from fusion.model.checkpoint import load_fusion
from fusion.model.export import TOKEN_OUTPUTS


def test_log_mel_agrees_with_numpy() -> None:
    pcm = np.random.default_rng(1).normal(0, 0.1, 3200).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(pcm, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW + 1)[:-1], axis=1)) ** 2
    expected = np.log(power @ mel_filters(WINDOW // 2 + 1, 40).T + 1e-4).T / 3
    expected -= expected.mean(1, keepdims=True)
    found = LogMel()(torch.from_numpy(pcm)[None])[0].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_every_band_weighs_one() -> None:
    np.testing.assert_allclose(mel_filters(161, 40).sum(1), 1.0, rtol=1e-5)


def test_loudness_hardly_matters() -> None:
    pcm = torch.from_numpy(np.random.default_rng(1).normal(0, 0.2, (1, 8000)).astype(np.float32))
    mel = LogMel()
    assert float((mel(pcm) - mel(pcm * 0.3)).abs().max()) < 0.05


def test_summary_first_then_one_token_every_40_ms() -> None:
    encoder = SpeechEncoder(16, 2, words=5, intents=4, samples=8000).eval()
    tokens, position, words = encoder(torch.zeros(2, 8000))
    assert tokens.shape == position.shape == (2, 1 + encoder.frames, 16)
    assert encoder.frames == 13
    assert words.shape == (2, 5)
    assert bool(((words > 0) & (words < 1)).all())


def test_a_band_without_a_frequency_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"160 bands of .* 320 points over 320 samples .* take more points"):
        LogMel(160)
    assert LogMel(80, window=400, points=512)(torch.zeros(1, 1600)).shape == (1, 80, 8)


def test_the_names_that_bundled_weights_have() -> None:
    parts = {name.split(".")[0] for name in SpeechEncoder(16, 2, words=5, intents=4, samples=8000).state_dict()}
    heads = {"norm", "word_head", "intent_head", "summary", "time_layer"}
    assert parts == {"mel", "convolutions", "norms", "layers"} | heads


def test_bundled_weights_hear_what_the_bundled_graph_hears() -> None:
    folder = Path(fusion.__file__).parent / "weights" / "yard"
    encoder = load_fusion(folder).speech
    engine = load_engine(folder / "speech.onnx", backend="onnxruntime", threads=1, precision="f32")
    pcm = np.random.default_rng(2).normal(0, 0.1, (1, 48_000)).astype(np.float32)
    answer = engine.run({"pcm": pcm})
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(pcm))
    for name, value in zip((*TOKEN_OUTPUTS, "words"), expected, strict=True):
        np.testing.assert_allclose(answer[name], value.numpy(), atol=1e-4)
