"""The exported graphs are the model, whatever sensors are there."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from fusion.errors import ModelError
from fusion.model.build import FusionModel, build_fusion
from fusion.model.checkpoint import load_fusion, save_fusion
from fusion.preparation.fusion_spec import FusionSpec
from fusion.training import fusion_bundle
from fusion.training.fuse import FusionRecipe, train_fusion
from fusion.training.fusion_bundle import PARITY, check_parity, export_fusion, refuse_worse
from fusion.training.fusion_data import SceneSampler
from fusion.training.fusion_metrics import evaluate_fusion
from fusion.training.scene_features import FeatureCache
from fusion.training.utterances import UtteranceBank

GRAPHS = {"camera", "lidar", "speech", "fuser"}


@pytest.fixture(scope="module")
def model(spec: FusionSpec) -> FusionModel:
    torch.manual_seed(11)
    return build_fusion(spec).eval()


@pytest.fixture(scope="module")
def bundle(model: FusionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    found = export_fusion(model, folder)
    assert len(found) == 3 + 8
    assert max(found.values()) <= PARITY
    return folder


def test_graphs_hold_no_custom_operator(bundle: Path) -> None:
    assert {p.stem for p in bundle.glob("*.onnx")} == GRAPHS
    for path in bundle.glob("*.onnx"):
        graph = onnx.load(path)
        assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}
        assert [(o.domain, o.version) for o in graph.opset_import] == [("", 18)]
        assert all(d.dim_value > 0 for port in graph.graph.input for d in port.type.tensor_type.shape.dim)


def test_openvino_agrees_in_every_pattern(bundle: Path) -> None:
    found = check_parity(load_fusion(bundle), bundle, backend="openvino")
    assert max(found.values()) <= PARITY
    assert "fuser with nothing" in found
    assert "fuser with camera+lidar+speech" in found


def test_graphs_of_another_model_are_told_apart(
    bundle: Path, spec: FusionSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(12)
    assert max(check_parity(build_fusion(spec).eval(), bundle).values()) > PARITY
    monkeypatch.setattr(fusion_bundle, "PARITY", -1.0)
    monkeypatch.setattr(fusion_bundle, "fusion_graphs", lambda model: [])
    monkeypatch.setattr(fusion_bundle, "check_parity", lambda *a, **k: {"camera": 0.5})
    with pytest.raises(ModelError, match="camera differs from its model"):
        export_fusion(build_fusion(spec), tmp_path)


def test_a_worse_model_does_not_replace_the_bundled_one(
    cache: FeatureCache, spec: FusionSpec, bank: UtteranceBank, tmp_path: Path
) -> None:
    unseen = SceneSampler(cache, spec)
    recipe = FusionRecipe(
        epochs=8, batch=8, speech_steps=0, ema=0.8, warmup_steps=5, learning_rate=4e-3, threads=1, half=False
    )
    save_fusion(tmp_path, train_fusion(cache, tmp_path / "run", recipe, spec=spec, bank=bank))
    shipped = evaluate_fusion(load_fusion(tmp_path), unseen, patterns=["all"])["all"]
    refuse_worse(shipped, tmp_path, unseen)
    for name in sorted({"label", "condition", "nothing"} & set(shipped)):
        with pytest.raises(ModelError, match=f"{name} of the new fusion model"):
            refuse_worse(shipped | {name: shipped[name] - 0.02}, tmp_path, unseen)
    refuse_worse({}, tmp_path / "nothing bundled", unseen)
    other = replace(spec, profile="f" * 64)
    refuse_worse({}, tmp_path, SceneSampler(cache, other))
