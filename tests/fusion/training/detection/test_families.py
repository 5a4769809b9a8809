"""Three families come out as one graph: boxes and maps as torch computes them, taps where the head begins."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.engines import load_engine
from fusion.errors import ConfigError
from fusion.task import Task
from fusion.training.detection.architectures import NAMES, definition, new_network, same_family
from fusion.training.detection.checkpoint import read_checkpoint
from fusion.training.detection.export import OUTPUTS
from fusion.training.detection.kinds import membership
from fusion.training.detection.tensorrt_operators import OPERATORS, refused_by_tensorrt
from fusion.training.detection.trunk import Detector, Trunk, fit_projection, load_detector
from fusion.training.onnx_file import export_onnx

FAMILIES = ("yolov8n", "yolo11n", "yolo26n")
IMAGE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def _trunk(detector: Detector) -> Trunk:
    with torch.no_grad():
        widths = [m.shape[1] for m in detector.neck(IMAGE)]
    rng = np.random.default_rng(9)
    cells = [rng.normal(size=(400, width)).astype(np.float32) for width in widths]
    return Trunk(detector, [fit_projection(c, 8, 1.5, detector.reading(i)) for i, c in enumerate(cells)]).eval()


@pytest.fixture(params=FAMILIES)
def family(request, random_checkpoint) -> Path:
    return random_checkpoint(request.param)


def test_the_graph_computes_what_torch_does(family: Path, task: Task, tmp_path: Path) -> None:
    trunk = _trunk(load_detector(family, task, 64, 64))
    graph = export_onnx(
        trunk, (torch.zeros(1, 3, 64, 64),), tmp_path / "d.onnx", input_names=["images"], output_names=list(OUTPUTS)
    )
    with torch.no_grad():
        library = read_checkpoint(family)(IMAGE)[0].numpy()
        codes = [t.numpy() for t in trunk(IMAGE)[1:]]
    assert library.shape == (1, 4 + 2, 84)
    for backend in ("onnxruntime", "openvino"):
        found = load_engine(graph, backend=backend, threads=1, precision="f32").run({"images": IMAGE.numpy()})
        np.testing.assert_allclose(found["predictions"][:, :4], library[:, :4], rtol=2e-3, atol=0.5)  # half weights
        np.testing.assert_allclose(found["predictions"][:, 4:], library[:, 4:], atol=5e-3)
        for level, expected in zip(OUTPUTS[1:], codes, strict=True):
            assert found[level].dtype == np.int8
            assert np.abs(found[level].astype(int) - expected.astype(int)).max() <= 1
            assert (found[level] == expected).mean() > 0.95
    assert refused_by_tensorrt(graph) == []


def test_taps_are_what_enters_the_head(family: Path, task: Task) -> None:
    network = read_checkpoint(family)
    entered: list[torch.Tensor] = []
    network.model[-1].register_forward_pre_hook(lambda _, inputs: entered.extend(inputs[0]))
    with torch.no_grad():
        network(IMAGE)
        maps = load_detector(family, task, 64, 64).neck(IMAGE)
    for ours, theirs in zip(maps, entered, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_kinds_add_up_in_every_family(family: Path) -> None:
    network = read_checkpoint(family)
    kinds = ("drum/ok", "drum/dented")
    sums = membership(kinds, ("drum",)), membership(kinds, ("ok", "dented"), by_condition=True)
    told = Detector(network, 64, 64, classes=sums[0], conditions=sums[1]).eval()
    with torch.no_grad():
        raw = network(IMAGE)[0][:, 4:]
        boxes, shares = told.predictions(told.neck(IMAGE))
    torch.testing.assert_close(boxes[:, 4], raw.sum(1).clamp(max=1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shares, raw, atol=1e-5, rtol=1e-4)


def test_families_are_told_apart_and_sizes_are_not() -> None:
    nano = {name: new_network(name, 2) for name in FAMILIES}
    assert [[same_family(a, b) for b in nano.values()] for a in nano.values()] == np.eye(3, dtype=bool).tolist()
    assert same_family(nano["yolov8n"], new_network("yolov8s", 2))


def test_an_unknown_architecture_lists_the_known_ones() -> None:
    assert len(NAMES) == 15
    assert definition("yolo11s") == "yolo11s.yaml"
    with pytest.raises(ConfigError, match=r"'yolov5n'; use one of yolov8n\.\.yolov8x, yolo11n\.\.yolo11x"):
        definition("yolov5n")


def test_the_list_of_operators_is_that_of_the_parser() -> None:
    assert {"Conv", "Resize", "QuantizeLinear", "Softmax"} <= OPERATORS
    assert not {"QLinearConv", "ConvInteger", "DynamicQuantizeLinear", "Unique"} & OPERATORS
