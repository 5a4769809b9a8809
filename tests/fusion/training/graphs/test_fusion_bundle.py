"""The exported graphs are the model, whatever sensors are there."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from fusion.cli import main
from fusion.errors import ModelError
from fusion.model.build import FusionModel, build_fusion
from fusion.model.checkpoint import load_fusion
from fusion.model.export import fusion_graphs
from fusion.preparation.fusion_spec import FusionSpec
from fusion.training import fuse, fusion_bundle, fusion_commands, fusion_gate, novelty, scene_features
from fusion.training.bundle import write_card, write_digests
from fusion.training.fusion_bundle import PARITY, check_parity, export_fusion
from fusion.training.fusion_data import SceneSampler
from fusion.training.fusion_gate import HELD_SECTION, refuse_worse
from fusion.training.fusion_metrics import evaluate_fusion
from fusion.training.scene_features import FeatureCache
from fusion.training.utterances import UtteranceBank

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


@pytest.fixture(scope="module")
def shipped(bundle: Path, cache: FeatureCache, spec: FusionSpec) -> dict[str, dict[str, float]]:
    return evaluate_fusion(load_fusion(bundle), SceneSampler(cache, spec))


@pytest.mark.parametrize(
    ("pattern", "figure", "much"),
    [
        ("all", "label", -0.01),
        ("all", "nothing", -0.01),
        ("all", "condition", -0.01),
        ("all", "asked", -0.01),
        ("all", "intent", -0.03),
        ("all", "asked object found", -0.03),
        ("all", "box centre error m", 0.03),
        ("no lidar", "condition", -0.03),
        ("camera only", "box centre error m", 0.03),
        ("no camera", "anchor recall", -0.03),
    ],
)
def test_a_worse_model_does_not_replace_the_bundled_one(
    pattern: str,
    figure: str,
    much: float,
    shipped: dict[str, dict[str, float]],
    cache: FeatureCache,
    spec: FusionSpec,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unseen, told = SceneSampler(cache, spec), shipped | {pattern: {"nothing": 0.5} | shipped[pattern]}
    if figure not in told[pattern]:
        told[pattern][figure] = 0.5
    monkeypatch.setattr(fusion_gate, "evaluate_fusion", lambda *_: told)
    refuse_worse(told, bundle, unseen)
    worse = told | {pattern: told[pattern] | {figure: told[pattern][figure] + much}}
    with pytest.raises(ModelError, match=rf"{figure} of the new fusion model \(sensors: {pattern}\)"):
        refuse_worse(worse, bundle, unseen)
    lacking = told | {pattern: {name: value for name, value in told[pattern].items() if name != figure}}
    with pytest.raises(ModelError, match=f"{figure} of the new fusion model"):
        refuse_worse(lacking, bundle, unseen)


def test_what_cannot_be_compared_gives_way(bundle: Path, cache: FeatureCache, spec: FusionSpec) -> None:
    refuse_worse({}, bundle / "nothing bundled", SceneSampler(cache, spec))
    refuse_worse({}, bundle, SceneSampler(cache, replace(spec, profile="f" * 64)))


def test_small_losses_of_a_fusion_model_do_not_add_up(
    bundle: Path,
    cache: FeatureCache,
    larger_cache: FeatureCache,
    spec: FusionSpec,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    shutil.copytree(bundle, tmp_path / "copy")
    now = {"all": {"label": 0.9, "box centre error m": 0.1}}
    monkeypatch.setattr(fusion_gate, "evaluate_fusion", lambda *_: now)
    unseen = SceneSampler(cache, spec)

    def offer(label: float, error: float, scenes: SceneSampler = unseen) -> None:
        told = {"all": {"label": label, "box centre error m": error}}
        best = refuse_worse(told, tmp_path / "copy", scenes)
        write_card(tmp_path / "copy", "tiny", {HELD_SECTION: best})
        now.update(told)

    offer(0.896, 0.115)
    with pytest.raises(ModelError, match=r"label .* is 0\.892 .*, held to 0\.900 within 0\.005"):
        offer(0.892, 0.1)
    with pytest.raises(ModelError, match=r"box centre error m .* is 0\.130 .*, held to 0\.100 within 0\.02"):
        offer(0.9, 0.13)
    offer(0.892, 0.13, SceneSampler(larger_cache, spec))


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """Of the bundle, with card and digests."""
    shutil.copytree(bundle, tmp_path / "copy")
    write_card(tmp_path / "copy", "tiny", {})
    write_digests(tmp_path / "copy")
    return tmp_path / "copy"


def test_graphs_that_differ_from_their_model_never_reach_the_bundle(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = contents(copy)
    monkeypatch.setattr(fusion_bundle, "PARITY", -1.0)
    monkeypatch.setattr(fusion_bundle, "fusion_graphs", lambda model: fusion_graphs(model)[:1])
    command = ["export", "--task", "yard", "--weights", str(copy)]
    assert main(command) == ModelError.exit_code
    assert main([*command, "--out", str(tmp_path / "other")]) == ModelError.exit_code
    assert contents(copy) == kept
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_a_new_model_comes_into_the_bundle_whole_or_not_at_all(
    copy: Path,
    bundle: Path,
    model: FusionModel,
    larger_cache: FeatureCache,
    bank: UtteranceBank,
    spec: FusionSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures = evaluate_fusion(model, SceneSampler(larger_cache, spec))

    def train(_: object, out: Path, *__: object, **___: object) -> FusionModel:
        out.mkdir(parents=True, exist_ok=True)
        (out / "metrics.json").write_text(json.dumps({"validation": figures}))
        return model

    def export(_: object, folder: Path) -> dict[str, float]:
        shutil.copytree(bundle, folder, dirs_exist_ok=True)
        return {"camera": 0.0}

    def cut(*_: object) -> None:
        raise ModelError("cut short")

    monkeypatch.setattr(fuse, "train_fusion", train)
    monkeypatch.setattr(fusion_bundle, "export_fusion", export)
    monkeypatch.setattr(scene_features, "cache_features", lambda *_, **__: larger_cache)
    monkeypatch.setattr(fusion_commands, "detector_scenes", lambda *_: tmp_path)
    monkeypatch.setattr(fusion_commands, "_material", lambda *_: (larger_cache, bank, spec))
    command = ["train", "fusion", "--task", "yard", "--weights", str(copy), "--out", str(tmp_path / "runs")]
    for graph in copy.glob("*.onnx"):
        graph.write_bytes(b"of the model before")
    kept = contents(copy)
    with monkeypatch.context() as patched:
        patched.setattr(novelty, "learn_references", cut)
        assert main(command) == ModelError.exit_code
    assert contents(copy) == kept
    assert main(command) == 0
    made = contents(copy)
    assert made.keys() == kept.keys() | {"novelty.npz"}
    assert not {name for name in made if name.endswith(".onnx") and made[name] == kept[name]}
    assert json.loads((copy / "card.json").read_text())[HELD_SECTION]["all: label"] == figures["all"]["label"]
    listed = dict(reversed(line.split("  ")) for line in (copy / "SHA256SUMS").read_text().splitlines())
    assert listed == {name: digest for name, digest in made.items() if name != "SHA256SUMS"}
