"""A Conformer hears in order, learns, and exports."""

from dataclasses import replace

import torch

from fusion.encoders.conformer import ConformerEncoder
from fusion.encoders.speech import SpeechEncoder
from fusion.model.build import build_fusion
from fusion.model.sizes import tiny_spec
from fusion.task import Task

SAMPLES = 8000


def _encoder(**options: int) -> ConformerEncoder:
    torch.manual_seed(3)
    return ConformerEncoder(16, 2, 5, 4, SAMPLES, layers=2, hidden=32, kernel=7, **options).eval()


def _sound(seed: int) -> torch.Tensor:
    return torch.rand(1, SAMPLES, generator=torch.Generator().manual_seed(seed)) - 0.5


def test_frames_are_those_of_the_small_encoder() -> None:
    assert _encoder().frames == SpeechEncoder(16, 2, 5, 4, SAMPLES).frames == 13
    for options, frames in (({}, 13), ({"mels": 80, "window": 400, "points": 512}, 12)):
        tokens, position, words = _encoder(**options)(torch.cat([_sound(1), _sound(2)]))
        assert tokens.shape == position.shape == (2, 1 + frames, 16)
        assert words.shape == (2, 5)


def test_rows_do_not_hear_each_other_and_time_matters() -> None:
    encoder = _encoder()
    both, _, _ = encoder(torch.cat([_sound(1), _sound(2)]))
    torch.testing.assert_close(both[:1], encoder(_sound(1))[0], atol=1e-5, rtol=1e-5)
    turned, _, _ = encoder(_sound(1).flip(1))
    assert not torch.allclose(both[:1, 1:], turned[:, 1:].flip(1), atol=1e-2)


def test_every_weight_learns() -> None:
    encoder = _encoder().train()
    tokens, _, words, intent, _ = encoder.hear(torch.cat([_sound(1), _sound(2)]))
    (tokens.square().sum() + words.sum() + intent.square().sum()).backward()
    assert not [name for name, value in encoder.named_parameters() if value.grad is None]


def test_the_graph_equals_torch(exported) -> None:
    silence = torch.zeros(1, SAMPLES)
    _, worst = exported(_encoder(), {"pcm": silence}, [{"pcm": x} for x in (_sound(1), _sound(2), silence)])
    assert worst <= 1e-4


def test_a_spec_names_it_and_its_sizes() -> None:
    ears = {"encoder": "speech-conformer", "layers": 1, "hidden": 32, "kernel": 7}
    spec = replace(tiny_spec(Task.load("yard")), encoders={"speech": ears})
    model = build_fusion(spec)
    assert isinstance(model.speech, ConformerEncoder)
    assert len(model.speech.layers) == 1
    tokens, _, words = model.speech(*ConformerEncoder.example(spec).values())
    assert tokens.shape == (1, 1 + model.speech.frames, spec.width)
    assert words.shape == (1, len(spec.words))
