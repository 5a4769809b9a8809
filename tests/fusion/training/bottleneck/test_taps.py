"""A trunk's projections in its graph: found, shown, replaced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fusion.codec import Profile
from fusion.engines import load_engine
from fusion.errors import ModelError
from fusion.preparation import letterbox, to_input
from fusion.recording.pictures.image_folder import ImageFolder
from fusion.training.bottleneck.taps import read_taps, replace_projections, show_maps
from fusion.training.detection.trunk import CLIP


@pytest.fixture(scope="module")
def inputs(pictures: ImageFolder) -> dict[str, np.ndarray]:
    return {"images": to_input(letterbox(pictures.image("b0").pixels, 640, 640)[0])}


def test_the_codes_are_what_the_taps_say_they_are(bundle: Path, inputs: dict[str, np.ndarray], tmp_path: Path) -> None:
    graph, profile = bundle / "detector.onnx", Profile.load(bundle)
    taps = read_taps(graph, profile)
    show_maps(graph, taps, tmp_path / "shown.onnx")
    outputs = load_engine(tmp_path / "shown.onnx", backend="onnxruntime", threads=1).run(inputs)
    for tap in taps:
        neck = outputs[tap.source][0]
        codes = np.einsum("kc,chw->khw", tap.weight, neck) + tap.bias[:, None, None]
        told = outputs[tap.level][0]
        assert np.abs(told).max() <= CLIP
        assert (np.abs(np.clip(np.rint(codes), -CLIP, CLIP) - told) <= 1).all()
        assert (np.clip(np.rint(codes), -CLIP, CLIP) == told).mean() > 0.999
        np.testing.assert_allclose(tap.reading, tap.reading.T, rtol=1e-5)
        assert np.linalg.eigvalsh(tap.reading.astype(np.float64)).min() > -1e-3


def test_another_projection_leaves_the_boxes_alone(bundle: Path, inputs: dict[str, np.ndarray], tmp_path: Path) -> None:
    graph, profile = bundle / "detector.onnx", Profile.load(bundle)
    taps, made = read_taps(graph, profile), tmp_path / "made.onnx"
    replace_projections(graph, taps, [-tap.weight for tap in taps], [-tap.bias for tap in taps], made)
    before, after = (load_engine(path, backend="onnxruntime", threads=1).run(inputs) for path in (graph, made))
    np.testing.assert_array_equal(before["predictions"], after["predictions"])
    for tap in taps:
        np.testing.assert_array_equal(before[tap.level], -after[tap.level])
    assert abs(made.stat().st_size - graph.stat().st_size) < 1000  # weights are stored in half as before


def test_a_graph_that_is_no_trunk_of_ours_is_refused_by_name(bundle: Path) -> None:
    graph = bundle.parent / "yard" / "camera.onnx"
    with pytest.raises(ModelError, match=r"camera\.onnx: p3 is not the rounded output of a plain convolution"):
        read_taps(graph, Profile.load(bundle))
