"""The frozen trunk: projection, rate and the exported graph."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.errors import ModelError
from fusion.task import Task
from fusion.training.detection.kinds import membership
from fusion.training.detection.trunk import (
    CLIP,
    Detector,
    Trunk,
    fit_projection,
    gather_cells,
    load_detector,
    mean_entropy,
    open_cells,
)


@pytest.fixture(scope="module")
def detector() -> Detector:
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    network = DetectionModel("yolov8n.yaml", nc=3, verbose=False).float().eval()
    return Detector(network, 128, 96).eval()


def test_predictions_equal_the_librarys_own(detector: Detector) -> None:
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    network = DetectionModel("yolov8n.yaml", nc=3, verbose=False).float().eval()
    image = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        expected = network(image)[0]
        ours, conditions = detector.predictions(detector.neck(image))
    assert conditions.shape[1] == 0
    assert torch.allclose(ours, expected, atol=1e-3)


def test_kinds_add_up_to_classes_and_conditions() -> None:
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    network = DetectionModel("yolov8n.yaml", nc=3, verbose=False).float().eval()
    kinds = ("drum/ok", "drum/dented", "cone/ok")
    classes, conditions = membership(kinds, ("drum", "cone")), membership(kinds, ("ok", "dented"), by_condition=True)
    plain, told = Detector(network, 128, 96).eval(), Detector(network, 128, 96, classes=classes, conditions=conditions)
    image = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        raw = plain.predictions(plain.neck(image))[0][:, 4:]
        boxes, shares = told.eval().predictions(told.neck(image))
    torch.testing.assert_close(boxes[:, 4], (raw[:, 0] + raw[:, 1]).clamp(max=1))
    torch.testing.assert_close(boxes[:, 5], raw[:, 2])
    torch.testing.assert_close(shares, torch.stack([raw[:, 0] + raw[:, 2], raw[:, 1]], 1))


def test_what_the_head_reads_is_kept_before_what_varies_most() -> None:
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(4000, 8)).astype(np.float32) * np.array([9, 8, 7, 6, 1, 1, 1, 1], np.float32)
    reading = np.diag([1e-4] * 4 + [1.0] * 4).astype(np.float32)
    kept = fit_projection(cells, 4, 1.5, reading)
    assert np.abs(kept.weight[:, 4:]).sum() > 20 * np.abs(kept.weight[:, :4]).sum()
    plain = fit_projection(cells, 4, 1.5)
    assert np.abs(plain.weight[:, :4]).sum() > 20 * np.abs(plain.weight[:, 4:]).sum()


def test_the_step_spends_the_bits_it_is_given() -> None:
    cells = np.random.default_rng(0).normal(size=(4000, 16)).astype(np.float32) * np.linspace(
        5, 0.1, 16, dtype=np.float32
    )
    for bits in (0.8, 1.6):
        projection = fit_projection(cells, 8, bits)
        codes = np.clip(np.rint((cells - projection.mean) @ projection.weight.T / projection.step), -CLIP, CLIP)
        assert mean_entropy(codes) == pytest.approx(bits, abs=0.05)


def test_too_few_cells_are_refused() -> None:
    with pytest.raises(ModelError, match="too few"):
        fit_projection(np.zeros((10, 16), np.float32), 8, 1.0)


def test_a_coarse_cell_is_open_above_an_open_fine_one() -> None:
    fine, coarse = np.zeros((8, 8), np.float32), np.zeros((4, 4), np.float32)
    fine[6, 6] = 0.5
    gates = open_cells([fine, coarse])
    assert gates[0].sum() == 9
    assert gates[1][3, 3]
    assert not gates[1][0, 0]


def test_the_exported_graph_gives_the_same_codes(detector: Detector, tmp_path: Path) -> None:
    import onnxruntime

    from fusion.training.onnx_file import export_onnx

    images = [np.random.default_rng(i).random((1, 3, 96, 128), np.float32) for i in range(3)]
    detector.head.bias_init()
    cells = [
        c if len(c) > 200 else np.random.default_rng(9).normal(size=(400, w)).astype(np.float32)
        for c, w in zip(gather_cells(detector, images, 100, 0), (64, 128, 256), strict=True)
    ]
    trunk = Trunk(detector, [fit_projection(c, 8, 1.5) for c in cells]).eval()
    names = ["predictions", "p3", "p4", "p5"]
    path = export_onnx(
        trunk, (torch.zeros(1, 3, 96, 128),), tmp_path / "d.onnx", input_names=["images"], output_names=names
    )
    outputs = onnxruntime.InferenceSession(str(path)).run(names, {"images": images[0]})
    with torch.no_grad():
        expected = [t.numpy() for t in trunk(torch.from_numpy(images[0]))]
    assert outputs[1].dtype == np.int8
    assert outputs[1].shape == (1, 8, 12, 16)
    for ours, theirs in zip(outputs[1:], expected[1:], strict=True):
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
        assert (ours == theirs).mean() > 0.97


def test_a_missing_detector_says_how_to_train_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="fusion train detector"):
        load_detector(tmp_path / "none.pt", Task.load("yard"), 64, 64)
