"""Networks that read samples: what padding does to them, and their graph."""

import pytest
import torch

from fusion.encoders.pretrained import PretrainedSpeechEncoder

SAMPLES = 8000
PADDING = 4 * 640


def _sound(samples: int = SAMPLES) -> torch.Tensor:
    return torch.rand(1, samples, generator=torch.Generator().manual_seed(4)) - 0.5


def _frames(folder, pcm: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(3)
    encoder = PretrainedSpeechEncoder(folder, 16, 5, 4, pcm.shape[1]).eval()
    with torch.inference_mode():
        tokens, _, words, _, _ = encoder.hear(pcm)
    return torch.cat([tokens[0, -12:].flatten(), words.flatten()])


@pytest.mark.parametrize("kind", ["Wav2Vec2", "Hubert", "WavLM"])
def test_padding_changes_nothing_behind_a_front_end_of_layer_norms(speech_network, kind: str) -> None:
    folder = speech_network(kind, feat_extract_norm="layer")
    padded = torch.nn.functional.pad(_sound(), (PADDING, 0))
    torch.testing.assert_close(_frames(folder, padded), _frames(folder, _sound()), atol=1e-5, rtol=1e-5)


def test_padding_is_heard_behind_a_front_end_of_group_norms(speech_network) -> None:
    folder = speech_network("Wav2Vec2", feat_extract_norm="group")
    padded = torch.nn.functional.pad(_sound(), (PADDING, 0))
    assert not torch.allclose(_frames(folder, padded), _frames(folder, _sound()), atol=1e-3)


def test_the_graph_equals_torch(speech_network, exported) -> None:
    folder = speech_network("Wav2Vec2", feat_extract_norm="layer", num_hidden_layers=1)
    encoder = PretrainedSpeechEncoder(folder, 16, 5, 4, SAMPLES).eval()
    late = torch.nn.functional.pad(_sound(SAMPLES - 3000), (3000, 0))
    cases = [{"pcm": pcm} for pcm in (_sound(), late, torch.zeros(1, SAMPLES))]
    _, worst = exported(encoder, cases[0], cases)
    assert worst <= 1e-4
