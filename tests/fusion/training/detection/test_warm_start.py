"""A detector goes on from an exported graph: same answers before the first step."""

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.errors import ModelError
from fusion.task import Task
from fusion.training.detection.trunk import Detector, Trunk, fit_projection
from fusion.training.detection.warm_start import bundle_network, read_weights, settle_batch_norms, start_from
from fusion.training.onnx_file import export_onnx


def _network(kinds: int, seed: int = 0):
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(seed)
    return DetectionModel("yolov8n.yaml", nc=kinds, verbose=False).float().eval()


def _lively(network: torch.nn.Module) -> None:
    """Batch norms as after some training."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
            module.weight.data.copy_(0.5 + torch.rand(module.num_features, generator=generator))
            module.bias.data.copy_(0.2 * torch.randn(module.num_features, generator=generator))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory):
    network = _network(2)
    _lively(network)
    detector = Detector(network.fuse(verbose=False), 128, 96).eval()
    cells = [np.random.default_rng(9).normal(size=(400, w)).astype(np.float32) for w in (64, 128, 256)]
    path = tmp_path_factory.mktemp("start") / "detector.onnx"
    trunk = Trunk(detector, [fit_projection(c, 8, 1.5) for c in cells])
    export_onnx(
        trunk,
        (torch.zeros(1, 3, 96, 128),),
        path,
        input_names=["images"],
        output_names=["predictions", "p3", "p4", "p5"],
        half_weights=False,
    )
    return detector, path


def test_a_fresh_network_answers_as_the_graph_did(exported) -> None:
    detector, path = exported
    network = _network(2, seed=5)
    start_from(network, read_weights(path), ["drum", "cone"], ["drum", "cone"])
    pictures = torch.rand(8, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    settle_batch_norms(network, [pictures])
    with torch.no_grad():
        ours = network(pictures)[0]
        expected = torch.cat([detector.predictions(detector.neck(p[None]))[0] for p in pictures])
    torch.testing.assert_close(ours, expected, atol=2e-2, rtol=1e-3)
    assert not network.training


def test_new_kinds_share_the_old_class(exported) -> None:
    detector, path = exported
    network = _network(3, seed=5)
    start_from(network, read_weights(path), ["drum", "cone"], ["drum/ok", "drum/dented", "cone/ok"])
    pictures = torch.rand(4, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    settle_batch_norms(network, [pictures])
    with torch.no_grad():
        ours = network(pictures)[0]
        expected = torch.cat([detector.predictions(detector.neck(p[None]))[0] for p in pictures])
    torch.testing.assert_close(ours[:, 4], ours[:, 5])
    odds = torch.logit(expected[:, 4]) - float(np.log(2))
    torch.testing.assert_close(torch.logit(ours[:, 4]), odds, atol=2e-2, rtol=1e-2)
    torch.testing.assert_close(ours[:, 6], expected[:, 5], atol=1e-3, rtol=1e-2)


def test_a_bundle_written_before_cards_told_classes_has_those_of_its_task() -> None:
    pcb = Path(str(resources.files("fusion").joinpath("weights", "pcb")))
    assert bundle_network(pcb, list(Task.load("pcb").classes)).names[0] == "open"
    with pytest.raises(ModelError, match=r"it knows the classes of task pcb: open, .*; the data has cat, dog"):
        bundle_network(pcb, ["cat", "dog", "bird", "cow", "hen", "fox"])


def test_what_is_no_detector_is_refused(exported, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such detector"):
        read_weights(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="train it from nothing"):
        start_from(torch.nn.Linear(2, 2), read_weights(exported[1]), ["drum"], ["drum"])
    with pytest.raises(ModelError, match="do not fit"):
        start_from(_network(5), read_weights(exported[1]), ["drum", "cone", "crate"], list("abcde"))
    with pytest.raises(ModelError, match="has no class crate"):
        start_from(_network(3), read_weights(exported[1]), ["drum", "cone"], ["drum", "cone", "crate"])


def test_a_card_without_an_architecture_says_so(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(json.dumps({"Recipe": {"architecture": ""}}))
    with pytest.raises(ModelError, match=r"card\.json: tells of no architecture that can be built \(''\)"):
        bundle_network(tmp_path, ["red"])
