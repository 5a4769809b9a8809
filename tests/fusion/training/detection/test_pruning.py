"""Channels are taken out: the network computes what the masked one did, with fewer numbers, and still exports."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.cli import main
from fusion.codec import Profile
from fusion.errors import ConfigError, ModelError
from fusion.recording.pictures.image_folder import ImageFolder
from fusion.task import Task
from fusion.training.detection.architectures import parameters
from fusion.training.detection.checkpoint import read_checkpoint, write_checkpoint
from fusion.training.detection.export import export_detector
from fusion.training.detection.make import CALIBRATION_IMAGES
from fusion.training.detection.operations import multiply_adds
from fusion.training.detection.prune import CUT, TABLE_NAME, TRAINED_ON, WHOLE, prune_detector
from fusion.training.detection.pruning import MULTIPLE, choose, cut, links, mask
from fusion.training.detection.recipe import DetectorRecipe
from fusion.training.detection.sources import calibration_pictures
from fusion.training.detection.trunk import load_detector

PICTURES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize("architecture", ["yolov8n", "yolo11n", "yolo26n"])
def test_the_cut_network_computes_what_the_masked_one_does(architecture: str, random_checkpoint, task: Task) -> None:
    whole = read_checkpoint(random_checkpoint(architecture))
    masked, smaller = copy.deepcopy(whole), copy.deepcopy(whole)
    kept = choose(links(whole), 0.4)
    mask(links(masked), kept)
    cut(links(smaller), kept)
    with torch.no_grad():
        expected, found, before = (network(PICTURES)[0] for network in (masked, smaller, whole))
    torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-3)
    assert not torch.allclose(found, before, atol=1e-2)
    assert parameters(smaller) < 0.95 * parameters(whole)
    assert multiply_adds(smaller, 64) < 0.95 * multiply_adds(whole, 64)
    path = write_checkpoint(smaller, Path(random_checkpoint(architecture)).with_name("smaller.pt"))
    detector = load_detector(path, task, 96, 64)
    with torch.no_grad():
        trunk = torch.cat([detector.predictions(detector.neck(picture[None]))[0] for picture in PICTURES])
        torch.testing.assert_close(trunk, read_checkpoint(path)(PICTURES)[0], atol=1e-2, rtol=1e-3)


def test_only_what_lives_inside_a_block_goes(random_checkpoint) -> None:
    whole = read_checkpoint(random_checkpoint("yolov8n"))
    found = links(whole)
    kept = choose(found, 0.5)
    assert sum(map(len, kept)) <= 0.7 * sum(link.channels for link in found)
    assert all(len(stay) >= MULTIPLE and len(stay) % MULTIPLE == 0 for stay in kept)
    with torch.no_grad():
        taps = [m.shape for m in whole(PICTURES)[1]["feats"]]
        cut(found, kept)
        assert [m.shape for m in whole(PICTURES)[1]["feats"]] == taps


def test_the_least_important_go_first(random_checkpoint) -> None:
    whole = read_checkpoint(random_checkpoint("yolov8n"))
    found = links(whole)
    dead = torch.arange(0, found[1].channels, 2)
    found[1].maker.bn.weight.data[dead] = 1e-6
    stay = choose(found, 0.02)[1]
    assert not set(stay.tolist()) & set(dead.tolist())


def test_what_cannot_be_pruned_says_why(random_checkpoint) -> None:
    network = read_checkpoint(random_checkpoint("yolov8n"))
    for share in (0.0, 1.0, -1.0):
        with pytest.raises(ConfigError, match="--share"):
            choose(links(network), share)
    with pytest.raises(ModelError, match="folded away"):
        links(network.fuse(verbose=False))


def test_a_checkpoint_of_other_classes_is_not_pruned(random_checkpoint, data_yaml: Path, tmp_path: Path) -> None:
    """It would be measured on the wrong ones, and the trainer would build the whole network anew."""
    start = random_checkpoint("yolov8n", ("green", "red"))
    with pytest.raises(ModelError, match=r"yolov8n\.pt: it knows green, red; the data has red, green"):
        prune_detector(data_yaml, start, 0.2, tmp_path / "out", DetectorRecipe())
    assert not (tmp_path / "out").exists()


def test_a_pruned_detector_is_trained_on_and_exported(
    taught: Path, task_file: Path, root: Path, task: Task, pictures: ImageFolder, tmp_path: Path
) -> None:
    options = ["--share", "0.2", "--image-size", "64", "--batch", "16", "--epochs", "3", "--threads", "1"]
    command = ["prune", "--task", task_file, "--start", taught, "--data", root, "--out", tmp_path]
    assert main([*map(str, command), *options]) == 0
    out = tmp_path / "squares" / "prune"
    told = (out / TABLE_NAME).read_text()
    rows = json.loads(told)
    assert list(rows) == [WHOLE, CUT, TRAINED_ON]
    assert rows[TRAINED_ON]["trained"]["start"] == "pruned.pt"
    assert str(tmp_path) not in told
    for figure in ("parameters", "multiply_adds", "bytes"):
        assert rows[TRAINED_ON][figure] <= rows[CUT][figure] < rows[WHOLE][figure]
    assert rows[TRAINED_ON]["parameters"] == rows[CUT]["parameters"]
    before, after = rows[CUT]["channels"]["model.12.m.0"]
    assert after <= before == 64
    best = out / "trained" / "weights" / "best.pt"
    whole, smaller = (read_checkpoint(path).state_dict() for path in (out / "pruned.pt", best))
    assert any(not np.allclose(whole[name], smaller[name]) for name in whole)  # it learnt
    export_detector(best, task, calibration_pictures(pictures, CALIBRATION_IMAGES), tmp_path / "bundle")
    Profile.load(tmp_path / "bundle").check_trunk(tmp_path / "bundle" / "detector.onnx")
