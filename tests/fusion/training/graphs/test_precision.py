"""Graphs in fewer bits: near the whole ones, and only let through when they tell what is what as well."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from fusion.engines import load_engine
from fusion.errors import ConfigError, InputError, ModelError
from fusion.model.build import FusionModel
from fusion.perception.fused import _precisions
from fusion.preparation.fusion_spec import PRECISION_NAME, FusionSpec
from fusion.training import precision, variants
from fusion.training.fusion_data import PATTERNS, SceneSampler
from fusion.training.fusion_metrics import ANCHORS, HELD, MAY_LOSE
from fusion.training.graph_fusion import GraphFusion, rows_of
from fusion.training.int8 import kept_in_float, quantise
from fusion.training.onnx_file import restore_floats
from fusion.training.precision import Wanted, refuse_loss, report, write_variant
from fusion.training.scene_features import META_NAME, FeatureCache
from fusion.training.variants import able_backends

GRAPHS = ("camera", "lidar", "speech", "fuser")


@pytest.fixture(scope="module")
def data(cache: FeatureCache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        (folder / f"features-{split}").symlink_to(cache.folder)
    return folder


@pytest.fixture(scope="module")
def variant(bundle: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("variants") / "int8"
    return out, write_variant(bundle, out, Wanted("int8", data, max_loss=0.2, threads=1))


def test_graphs_are_measured_like_their_model(
    model: FusionModel, bundle: Path, cache: FeatureCache, spec: FusionSpec
) -> None:
    graphs = GraphFusion.load(bundle, spec, model.anchors, backend="onnxruntime", threads=1)
    sampler = SceneSampler(cache, spec)
    for pattern in ("all", "no camera", "camera only"):
        batch = sampler.gather([sampler.evaluation(i, PATTERNS[pattern]) for i in range(3)])
        with torch.inference_mode():
            wanted, _, _ = model(batch)
        got, _, _ = graphs(batch)
        for name in ("label_logits", "condition_logits", "latents", "sensor_age"):
            torch.testing.assert_close(getattr(got, name), getattr(wanted, name), atol=2e-2, rtol=2e-2)  # half weights
        assert torch.equal(got.sensor_present, wanted.sensor_present)


def test_int8_graphs_stay_near(
    bundle: Path, variant: tuple[Path, dict[str, Any]], cache: FeatureCache, spec: FusionSpec, model: FusionModel
) -> None:
    out, facts = variant
    assert {p.name for p in out.iterdir()} == {*(f"{name}.onnx" for name in GRAPHS), "fusion.json", PRECISION_NAME}
    assert all(facts["quantised"][name] > 0 for name in GRAPHS)
    whole, less = (GraphFusion.load(f, spec, model.anchors, backend="onnxruntime", threads=1) for f in (bundle, out))
    sampler = SceneSampler(cache, spec)
    (sample,) = rows_of(sampler.gather([sampler.evaluation(5, PATTERNS["all"])]))
    ports = whole.ports(sample)
    for name in GRAPHS:
        inputs = ports if name == "fuser" else whole.readings(sample, name)
        wanted, got = (graphs.engines[name].run(inputs) for graphs in (whole, less))
        for output, value in wanted.items():
            if value.dtype == np.bool_:
                np.testing.assert_array_equal(got[output], value)
                continue
            apart = np.linalg.norm(got[output] - value) / max(1e-6, np.linalg.norm(value))
            assert apart < 0.15, (name, output, apart)
    assert load_engine(out / "fuser.onnx", backend="openvino", threads=1, precision="f32").run(ports)


def test_the_card_tells_what_was_measured(variant: tuple[Path, dict[str, Any]]) -> None:
    out, facts = variant
    told = json.loads((out / PRECISION_NAME).read_text())
    assert told == facts
    assert told["precision"] == "int8"
    for backend in ("onnxruntime", "openvino"):
        figures = told["accuracy"][backend]
        assert figures["float32"]["label"] - figures["variant"]["label"] <= 0.2
        assert {*ANCHORS} <= {*figures["float32"]} <= {*HELD, "items"}
        assert set(told["latency_ms"][backend]) == set(GRAPHS)
        assert all(took["ratio"] > 0 for took in told["latency_ms"][backend].values())
    assert all(told["bytes"]["variant"][name] == (out / f"{name}.onnx").stat().st_size for name in GRAPHS)
    assert "| onnxruntime | label |" in report(facts)
    assert _precisions(out) == dict.fromkeys(GRAPHS, "f32")


def test_a_spoiled_variant_is_refused(
    bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(path: Path, out: Path, _readings: object) -> int:
        graph = onnx.load(path)
        for weights in graph.graph.initializer:
            if len(weights.dims) > 1 and weights.data_type != onnx.TensorProto.INT64:
                values = onnx.numpy_helper.to_array(weights)
                turned = np.ascontiguousarray(values.ravel()[::-1]).reshape(values.shape)
                weights.CopyFrom(onnx.numpy_helper.from_array(turned, weights.name))
        onnx.save(graph, out)
        return 1

    monkeypatch.setattr(precision, "quantise", spoil)
    out = tmp_path / "int8"
    with pytest.raises(ModelError, match=r"int8 loses too much: .* -> .* in onnxruntime \(within 0\.005\)"):
        write_variant(bundle, out, Wanted("int8", data, threads=1))
    assert not list(tmp_path.iterdir())


def test_the_gate() -> None:
    wanted = Wanted("int8", Path("data"))
    whole = {"label": 0.9, "condition": 0.8, "nothing": 0.7}
    kept = {"label": 0.896, "condition": 0.9, "nothing": 0.7}
    refuse_loss({"onnxruntime": {"float32": whole, "variant": kept}}, wanted)
    for less in (kept | {"label": 0.894}, kept | {"condition": 0.794}, kept | {"nothing": 0.69}, {"label": 0.9}, {}):
        with pytest.raises(ModelError, match="nothing was written"):
            refuse_loss({"onnxruntime": {"float32": whole, "variant": less}}, wanted)
    with pytest.raises(ModelError, match="no figure to hold a variant to; nothing was written"):
        refuse_loss({"onnxruntime": {"float32": {}, "variant": {}}}, wanted)


@pytest.mark.parametrize("figure", HELD)
def test_a_variant_is_held_to_every_figure_of_the_fusion_gate(figure: str) -> None:
    def offer(loss: float, max_loss: float = MAY_LOSE) -> None:
        after = 0.5 + loss if figure == "box centre error m" else 0.5 - loss
        less = dict.fromkeys(HELD, 0.5) | {figure: after}
        figures = {"openvino": {"float32": dict.fromkeys(HELD, 0.5), "variant": less}}
        refuse_loss(figures, Wanted("int8", Path("data"), max_loss=max_loss))

    offer(HELD[figure])
    offer(0.04, max_loss=0.05)
    for loss in (HELD[figure] + 0.001, float("nan")):
        with pytest.raises(ModelError, match=rf"int8 loses too much: {figure} 0\.5000 -> .* in openvino \(within"):
            offer(loss)
    with pytest.raises(ModelError, match=f"{figure} 0.5000 -> .* in openvino"):
        offer(0.06, max_loss=0.05)


def test_what_cannot_be_made_says_why(
    bundle: Path, data: Path, spec: FusionSpec, cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="'int4'; use int8 or bf16"):
        Wanted("int4", data)
    with pytest.raises(ConfigError, match="--max-loss"):
        Wanted("int8", data, max_loss=2.0)
    with pytest.raises(InputError, match="is there already"):
        write_variant(bundle, tmp_path, Wanted("int8", data))
    with pytest.raises(InputError, match="not a finished feature cache"):
        write_variant(bundle, tmp_path / "out", Wanted("int8", tmp_path))
    foreign = tmp_path / "foreign" / "features-train"
    shutil.copytree(cache.folder, foreign)
    meta = json.loads((foreign / META_NAME).read_text()) | {"profile": "f" * 64}
    (foreign / META_NAME).write_text(json.dumps(meta))
    with pytest.raises(InputError, match="features of another trunk"):
        write_variant(bundle, tmp_path / "out", Wanted("int8", foreign.parent))
    replace(spec, layout="bev").save(tmp_path / "ground")
    with pytest.raises(ConfigError, match="a model over the ground"):
        write_variant(tmp_path / "ground", tmp_path / "out", Wanted("int8", data))
    monkeypatch.setattr(variants, "openvino_has_bf16", lambda: False)
    with pytest.raises(ModelError, match="no engine computes in bf16"):
        write_variant(bundle, tmp_path / "out", Wanted("bf16", data))
    assert not (tmp_path / "out").exists()


def test_a_bf16_variant_is_the_same_graphs_told_to_compute_so(
    bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "openvino_has_bf16", lambda: True)
    assert able_backends("bf16") == ["openvino"]
    facts = write_variant(bundle, tmp_path / "bf16", Wanted("bf16", data, max_loss=0.2, threads=1))
    assert set(facts["accuracy"]) == {"openvino"}
    assert (tmp_path / "bf16" / "fuser.onnx").read_bytes() == (bundle / "fuser.onnx").read_bytes()
    assert _precisions(tmp_path / "bf16") == {"camera": "bf16", "lidar": "f32", "speech": "bf16", "fuser": "bf16"}
    (tmp_path / "bf16" / PRECISION_NAME).write_text("[]")
    with pytest.raises(ModelError, match="export the variant again"):
        _precisions(tmp_path / "bf16")


def test_what_reads_metres_or_sound_stays_in_float(bundle: Path) -> None:
    kept = {}
    for name in GRAPHS:
        graph = onnx.load(bundle / f"{name}.onnx")
        restore_floats(graph)
        assert not any(node.op_type == "Cast" and node.input[0].endswith(".half") for node in graph.graph.node)
        chosen, sizes = set(kept_in_float(graph)), {i.name: tuple(i.dims) for i in graph.graph.initializer}
        kept[name] = [sizes.get(n.input[1], n.input[1]) for n in graph.graph.node if n.name in chosen]
    assert kept["camera"] == [(48, 32)]  # rays; the trunk's int8 codes are fit for int8
    assert kept["lidar"] == [(7, 16)]
    assert [len(shape) for shape in kept["speech"]] == [3, 3]  # the Fourier basis and the mel filters
    assert (8, 24) in kept["fuser"]  # relations of places
    assert (32, 8) in kept["fuser"]  # the last layer of the boxes


def test_a_graph_that_cannot_be_quantised_is_named(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"camera\.onnx: cannot be quantised"):
        quantise(bundle / "camera.onnx", tmp_path / "camera.onnx", [])
