"""Whisper's front end is Whisper's, a whole window is heard as Whisper hears it, and its graph equals torch."""

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor, WhisperModel

from fusion.encoders.pretrained import PretrainedSpeechEncoder
from fusion.encoders.whisper import WhisperMel

SAMPLES = 8000
SOUND = torch.rand(1, SAMPLES, generator=torch.Generator().manual_seed(4)) - 0.5


@pytest.mark.parametrize("mels", [80, 128])
def test_whispers_log_mel_is_that_of_its_own_front_end(mels: int) -> None:
    pcm = np.random.default_rng(1).normal(0, 0.1, 16_000).astype(np.float32)
    extractor = WhisperFeatureExtractor(feature_size=mels)
    expected = extractor(pcm, sampling_rate=16_000, padding=False, return_tensors="np").input_features[0]
    found = WhisperMel(mels)(torch.from_numpy(pcm)[None])[0].numpy()
    assert found.shape == (mels, 100)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_whole_window_of_whisper_is_whisper(speech_network) -> None:
    folder = speech_network("Whisper", max_source_positions=25)
    encoder, model = (
        PretrainedSpeechEncoder(folder, 16, 5, 4, SAMPLES).eval(),
        WhisperModel.from_pretrained(folder).eval(),
    )
    with torch.inference_mode():
        expected = model.encoder(encoder.listener.mel(SOUND)).last_hidden_state
        torch.testing.assert_close(encoder.listener(SOUND)[0], expected)


def test_the_graph_equals_torch(speech_network, exported) -> None:
    folder = speech_network("Whisper", encoder_layers=1)
    encoder = PretrainedSpeechEncoder(folder, 16, 5, 4, SAMPLES).eval()
    cases = [{"pcm": pcm} for pcm in (SOUND, SOUND.flip(1) / 50, torch.zeros(1, SAMPLES))]
    _, worst = exported(encoder, cases[0], cases)
    assert worst <= 1e-4
