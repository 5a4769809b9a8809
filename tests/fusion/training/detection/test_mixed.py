"""Blocks of an int8 graph go back to float32, and what must never be rounded is not."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from fusion.codec import Profile
from fusion.engines import load_engine
from fusion.recording.pictures.image_folder import ImageFolder
from fusion.training.detection.mixed import MixedGraph, block_of
from fusion.training.detection.sources import calibration_pictures
from fusion.training.detection.variant import readings
from fusion.types import Float32Array


@pytest.fixture(scope="module")
def rows(bundle: Path, pictures: ImageFolder) -> list[dict[str, Float32Array]]:
    return list(readings(calibration_pictures(pictures, 6), Profile.load(bundle)))


@pytest.fixture(scope="module")
def mixed(bundle: Path, rows, tmp_path_factory: pytest.TempPathFactory) -> MixedGraph:
    return MixedGraph(bundle / "detector.onnx", tmp_path_factory.mktemp("mixed"), rows)


def _answer(graph: Path, row: dict[str, Float32Array]) -> dict[str, Float32Array]:
    return load_engine(graph, backend="onnxruntime", threads=1, precision="f32").run(row)


def test_blocks_are_the_layers_and_the_heads_branches(mixed: MixedGraph) -> None:
    assert mixed.blocks[:2] == ("layer 0", "layer 1")
    assert mixed.blocks[-6:] == tuple(f"head {branch}.{level}" for branch in ("cv2", "cv3") for level in range(3))
    assert "other" not in mixed.blocks  # such as what adds kinds up to classes, in probabilities
    assert block_of("detector.layers.12.m.0.cv1.conv.weight") == "layer 12"
    assert block_of("detector.head.cv3.1.0.conv.weight") == "head cv3.1"
    assert block_of("project.0.weight") == "other"


def test_with_every_block_in_float_the_graph_is_the_one_it_was_made_from(
    mixed: MixedGraph, bundle: Path, rows, tmp_path: Path
) -> None:
    assert mixed.write(tmp_path / "float.onnx", mixed.blocks) == 0
    whole, again = (_answer(path, rows[0]) for path in (bundle / "detector.onnx", tmp_path / "float.onnx"))
    for name, values in whole.items():
        np.testing.assert_allclose(again[name], values, atol=1e-4, rtol=1e-4)
    assert not any("Quantize" in node.op_type for node in onnx.load(tmp_path / "float.onnx").graph.node)


def test_one_block_in_float_is_released_alone(mixed: MixedGraph, rows, tmp_path: Path) -> None:
    every = mixed.write(tmp_path / "int8.onnx", ())
    fewer = mixed.write(tmp_path / "mixed.onnx", ["layer 4"])
    assert 0 < fewer < every
    quantised, released = (
        {tensor.name for tensor in onnx.load(tmp_path / f"{name}.onnx").graph.initializer if "quantized" in tensor.name}
        for name in ("int8", "mixed")
    )
    assert {block_of(name) for name in quantised - released} == {"layer 4"}
    assert released < quantised
    assert (tmp_path / "int8.onnx").stat().st_size < (tmp_path / "mixed.onnx").stat().st_size
    usual, less = (_answer(tmp_path / f"{name}.onnx", rows[0])["predictions"] for name in ("int8", "mixed"))
    assert not np.array_equal(usual, less)


def test_what_decodes_and_what_makes_symbols_stays_in_float(mixed: MixedGraph, tmp_path: Path) -> None:
    mixed.write(tmp_path / "int8.onnx", ())
    names = {tensor.name for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    rounded = [name for name in names if "quantized" in name]
    assert rounded
    assert not [name for name in rounded if name.startswith("project.") or "classes" in name]
    assert not [name for name in rounded if ".head.dfl." in name or (".head.cv" in name and ".2.weight" in name)]
