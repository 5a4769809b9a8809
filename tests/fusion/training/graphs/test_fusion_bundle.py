"""The exported graphs are the model, whatever sensors are there."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from fusion.errors import ModelError
from fusion.model.build import build_fusion
from fusion.model.checkpoint import load_fusion
from fusion.preparation.fusion_spec import FusionSpec
from fusion.training import fusion_bundle
from fusion.training.fusion_bundle import PARITY, check_parity, export_fusion, refuse_worse
from fusion.training.fusion_data import SceneSampler
from fusion.training.fusion_metrics import evaluate_fusion
from fusion.training.scene_features import FeatureCache

GRAPHS = {"camera", "lidar", "speech", "fuser"}


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


def test_a_worse_model_does_not_replace_the_bundled_one(cache: FeatureCache, spec: FusionSpec, bundle: Path) -> None:
    unseen = SceneSampler(cache, spec)
    shipped = evaluate_fusion(load_fusion(bundle), unseen, patterns=["all"])["all"]
    refuse_worse(shipped, bundle, unseen)
    for name in sorted({"label", "condition", "nothing"} & set(shipped)):
        with pytest.raises(ModelError, match=f"{name} of the new fusion model"):
            refuse_worse(shipped | {name: shipped[name] - 0.02}, bundle, unseen)
    refuse_worse({}, bundle / "nothing bundled", unseen)
    other = replace(spec, profile="f" * 64)
    refuse_worse({}, bundle, SceneSampler(cache, other))
