"""Pretrained speech networks: what is loaded, what is frozen, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig

from fusion.encoders.pretrained import PretrainedSpeechEncoder
from fusion.errors import ConfigError, ModelError
from fusion.model.build import build_fusion
from fusion.model.sizes import tiny_spec
from fusion.task import Task

SAMPLES = 8000
SOUND = torch.rand(2, SAMPLES, generator=torch.Generator().manual_seed(4)) - 0.5


def _encoder(folder: Path, **options: bool) -> PretrainedSpeechEncoder:
    torch.manual_seed(3)
    return PretrainedSpeechEncoder(folder, 16, 5, 4, SAMPLES, **options)


@pytest.mark.parametrize("kind", ["Wav2Vec2", "Hubert", "WavLM", "Whisper"])
def test_one_token_every_40_ms(speech_network, kind: str) -> None:
    encoder = _encoder(speech_network(kind)).eval()
    tokens, position, words = encoder(SOUND)
    frames = 13 if kind == "Whisper" else 12
    assert encoder.frames == frames
    assert tokens.shape == position.shape == (2, 1 + frames, 16)
    assert words.shape == (2, 5)
    assert bool(tokens.isfinite().all())


def test_frames_are_those_of_the_checkpoint(speech_network) -> None:
    folder = speech_network("Wav2Vec2")
    encoder, model = _encoder(folder).eval(), AutoModel.from_pretrained(folder).eval()
    normal = (SOUND - SOUND.mean(1, keepdim=True)) / (SOUND.var(1, keepdim=True, correction=0) + 1e-7).sqrt()
    with torch.inference_mode():
        torch.testing.assert_close(encoder.listener(SOUND)[0], model(normal).last_hidden_state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["Wav2Vec2", "Whisper"])
def test_a_network_is_frozen_unless_it_is_to_be_trained(speech_network, kind: str) -> None:
    folder = speech_network(kind)
    for trainable in (False, True):
        encoder = _encoder(folder, trainable=trainable).train()
        assert encoder.listener.training == trainable
        assert encoder.training
        encoder.hear(SOUND)[2].sum().backward()
        learning = [value.grad is not None for value in encoder.listener.parameters() if value.requires_grad]
        assert any(learning) == trainable
        assert encoder.narrow.weight.grad is not None
        if kind == "Whisper":
            assert not encoder.listener.encoder.embed_positions.weight.requires_grad


def test_a_fresh_network_takes_its_weights_from_elsewhere(speech_network) -> None:
    for kind in ("Wav2Vec2", "Whisper"):
        folder = speech_network(kind)
        encoder = _encoder(folder).eval()
        (folder / "model.safetensors").unlink()
        again = _encoder(folder, fresh=True).eval()
        again.load_state_dict(encoder.state_dict())
        torch.testing.assert_close(again(SOUND), encoder(SOUND))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"missing: no speech network could be loaded .*give a folder that save_pre"):
        _encoder(tmp_path / "missing")


def test_a_network_for_something_else_is_refused(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="a bert is no audio encoder"):
        _encoder(tmp_path)


def test_code_in_a_folder_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, ran = tmp_path / "own", tmp_path / "ran"
    folder.mkdir()
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Own: pass\n")
    (folder / "config.json").write_text('{"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}')
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt="": asked.append(prompt) or "y")
    with pytest.raises(ModelError, match="no speech network could be loaded"):
        _encoder(folder)
    assert not asked
    assert not ran.exists()


def test_weights_that_lack_a_layer_are_refused(speech_network) -> None:
    folder = speech_network("Wav2Vec2")
    path = folder / "model.safetensors"
    state = {key: value for key, value in load_file(path).items() if "encoder.layers.1" not in key}
    save_file(state, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"its weights lack encoder\.layers\.1\.\S+, .*\(of \d+\)"):
        _encoder(folder)
    path.write_bytes(b"not weights")
    with pytest.raises(ModelError, match="no speech network could be loaded"):
        _encoder(folder)


def test_windows_that_do_not_fit_are_refused(speech_network) -> None:
    with pytest.raises(ConfigError, match="a window of 500 samples; multiples of 320 up to 480000"):
        PretrainedSpeechEncoder(speech_network("Whisper"), 16, 5, 4, 500)
    with pytest.raises(ConfigError, match="a window of 300 samples is too short"):
        PretrainedSpeechEncoder(speech_network("Wav2Vec2"), 16, 5, 4, 300)


def test_a_spec_names_it_and_its_network(speech_network) -> None:
    ears = {"encoder": "speech-pretrained", "network": str(speech_network("Hubert")), "trainable": True}
    spec = replace(tiny_spec(Task.load("yard")), encoders={"speech": ears})
    model = build_fusion(spec)
    assert isinstance(model.speech, PretrainedSpeechEncoder)
    assert model.speech.trainable
    assert model.speech.summary.in_features == len(spec.words) + len(spec.intents)
