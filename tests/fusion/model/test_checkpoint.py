"""What is saved comes back, and what is broken is named."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fusion.errors import ModelError
from fusion.model.build import FusionModel, build_fusion
from fusion.model.checkpoint import (
    TrainingState,
    load_fusion,
    load_state,
    round_to_half,
    save_fusion,
    save_state,
)


@torch.inference_mode()
def test_a_saved_model_computes_the_same(model: FusionModel, tmp_path: Path) -> None:
    save_fusion(tmp_path, model)
    sound = torch.linspace(-1, 1, model.spec.samples)[None]
    for one, other in zip(model.speech(sound), load_fusion(tmp_path).speech(sound), strict=True):
        assert torch.equal(one, other)


def test_half_storage_is_exact_for_a_rounded_model(model: FusionModel, tmp_path: Path) -> None:
    rounded = round_to_half(build_fusion(model.spec))
    save_fusion(tmp_path, rounded, half=True)
    loaded = load_fusion(tmp_path).state_dict()
    for name, value in rounded.state_dict().items():
        assert torch.equal(value, loaded[name]), name


def test_a_missing_or_broken_file_is_named(model: FusionModel, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"fusion\.json"):
        load_fusion(tmp_path)
    save_fusion(tmp_path, model)
    weights = tmp_path / "fusion.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"fusion\.safetensors"):
        load_fusion(tmp_path)
    (tmp_path / "fusion.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="not the description of a fusion model"):
        load_fusion(tmp_path)


def test_a_training_state_comes_back(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None
    tensors: dict[str, Tensor] = {"model.a": torch.ones(2)}
    save_state(tmp_path, TrainingState(3, 40, tensors, {"history": [{"epoch": 1}]}))
    state = load_state(tmp_path)
    assert state is not None
    assert (state.epoch, state.step, state.facts["history"]) == (3, 40, [{"epoch": 1}])
    assert torch.equal(state.tensors["model.a"], tensors["model.a"])
