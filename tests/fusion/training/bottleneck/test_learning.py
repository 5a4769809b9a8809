"""What learns is what will be served: the same maps as the reviewer gets, and codes that cost fewer bits."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusion.cli import main
from fusion.codec import RATES, Profile, fit_frequencies
from fusion.codec.steps import coarser_symbols, codes_of
from fusion.engines import load_engine
from fusion.errors import InputError
from fusion.perception.detector import DetectorStage
from fusion.recording.pictures.image_folder import ImageFolder, LabelForm
from fusion.review.features import extract_features
from fusion.review.layout import layout_for
from fusion.task import Task
from fusion.training.bottleneck.batches import level_cells
from fusion.training.bottleneck.cells import CellItems, build_cells
from fusion.training.bottleneck.learning import begin
from fusion.training.bottleneck.measuring import item_bits
from fusion.training.bottleneck.network import LevelBottleneck, LogisticMixture
from fusion.training.bottleneck.taps import Tap, read_taps
from fusion.training.detection.trunk import CLIP
from fusion.training.review_items import Device, ItemRecipe
from fusion.training.review_sources import FolderMoments
from fusion.types import ItemId, SampleId


@pytest.fixture(scope="module")
def taps(bundle: Path) -> tuple[Tap, ...]:
    return read_taps(bundle / "detector.onnx", Profile.load(bundle))


@pytest.fixture(scope="module")
def items(
    pictures: ImageFolder, pcb: Task, bundle: Path, taps: tuple[Tap, ...], tmp_path_factory: pytest.TempPathFactory
) -> CellItems:
    source = FolderMoments(pictures, pcb, ("b0", "b1"))
    return build_cells(tmp_path_factory.mktemp("cells"), pcb, bundle, taps, source, threads=1, quiet=True)


def test_it_begins_with_the_maps_that_the_reviewer_gets_at_every_rate(
    items: CellItems, pictures: ImageFolder, pcb: Task, bundle: Path, taps: tuple[Tap, ...]
) -> None:
    profile = Profile.load(bundle)
    layout = layout_for(pcb, profile)
    stage = DetectorStage(load_engine(bundle / "detector.onnx", backend="onnxruntime", threads=1), pcb, profile)
    device = Device(pcb, profile, stage, None, layout, ItemRecipe())
    moment = FolderMoments(pictures, pcb, ("b0", "b1")).load(0)
    found, _ = device.look(0, moment)
    count = len(found.detections[: ItemRecipe().most])
    assert count > 5
    assert (items.columns["scene"] == 0).sum() == count
    bottleneck = begin(items, taps, [float(level.step.mean()) for level in profile.levels], 7)
    for place, rate in enumerate(RATES):
        rows = np.arange(count)
        for index in range(3):
            maps, _ = bottleneck.maps(index, level_cells(items, index, rows), torch.full((count,), place))
            for row in rows:
                item = ItemId(SampleId("d", "0" * 16, 1), int(row) + 1)
                served = extract_features(device.evidence(item, found, None, int(row), rate), profile, layout)
                assert served.maps is not None
                # float16 vectors may round to the next code now and then
                away = np.abs(maps[row].detach().numpy() - served.maps[index])
                assert np.quantile(away, 0.98) < 0.02 * (1 + np.abs(served.maps[index]).max()), (rate.name, index, row)
                np.testing.assert_allclose(maps[row, ..., -1].detach(), served.maps[index][..., -1], atol=2e-3)


@given(st.integers(0, 4), st.lists(st.integers(-CLIP, CLIP), min_size=1, max_size=40))
def test_coarser_codes_are_those_of_the_codec(exponent: int, values: list[int]) -> None:
    channels = len(values)
    same = np.eye(channels, dtype=np.float32)
    tap = Tap("p3", "x", same, np.zeros(channels, np.float32), same)
    level = LevelBottleneck(tap, torch.randn(64, channels))
    codes = np.array(values, np.int32)
    told = level.quantised(torch.tensor([values], dtype=torch.float32), torch.tensor([exponent]))
    expected = codes_of(coarser_symbols(codes, exponent), exponent, CLIP)
    np.testing.assert_array_equal(told.detach().numpy()[0], expected)


@given(st.floats(0.1, 12), st.integers(0, 1000))
def test_the_rate_model_is_a_distribution_over_codes(spread: float, seed: int) -> None:
    torch.manual_seed(seed)
    model = LogisticMixture(torch.tensor([spread]))
    with torch.no_grad():
        model.means += torch.randn_like(model.means)
        model.logits += torch.randn_like(model.logits)
        shares = 2 ** -model(torch.arange(-400.0, 401.0)[:, None])
    assert shares.sum() == pytest.approx(1, abs=2e-3)  # far tails are held at the least share


def test_pictures_without_items_are_refused(pcb: Task, bundle: Path, taps: tuple[Tap, ...], tmp_path: Path) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "dark.png"), np.zeros((640, 640, 3), np.uint8))
    (tmp_path / "labels" / "dark.txt").write_text("")
    dark = ImageFolder(tmp_path, form=LabelForm.DEEPPCB, classes=pcb.classes)
    source = FolderMoments(dark, pcb, ("dark",))
    with pytest.raises(InputError, match="the detector found no items in these pictures"):
        build_cells(tmp_path / "cells", pcb, bundle, taps, source, threads=1, quiet=True)


def test_corrected_labels_are_learnt_anew(
    boards: Path, pcb: Task, bundle: Path, taps: tuple[Tap, ...], tmp_path: Path
) -> None:
    root = tmp_path / "boards"
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    shutil.copy(boards / "images" / "b0.png", root / "images")
    label, told = root / "labels" / "b0.txt", []
    for text in ((boards / "labels" / "b0.txt").read_text(), ""):
        label.write_text(text)
        source = FolderMoments(ImageFolder(root, form=LabelForm.DEEPPCB, classes=pcb.classes), pcb, ("b0",))
        cells = build_cells(tmp_path / "cells", pcb, bundle, taps, source, threads=1, quiet=True)
        told.append(bool((cells.columns["truth"][:, 0] == 0).all()))  # every item a false alarm
    assert told == [False, True]


def test_an_items_bits_are_what_the_codec_needs_for_it(
    items: CellItems, pictures: ImageFolder, pcb: Task, bundle: Path, taps: tuple[Tap, ...]
) -> None:
    profile = Profile.load(bundle)
    levels, steps = [], [float(level.step.mean()) for level in profile.levels]
    bottleneck = begin(items, taps, steps, 7)
    for index, level in enumerate(bottleneck.levels):
        codes = level.quantised(torch.from_numpy(items.cells[index].astype(np.float32))).detach().numpy()
        levels.append(replace(profile.levels[index], frequencies=fit_frequencies(codes.astype(np.int8), CLIP)))
    made = Profile.create(
        task="pcb", image_width=640, image_height=640, levels=tuple(levels), trunk_sha256=profile.trunk_sha256
    )
    stage = DetectorStage(load_engine(bundle / "detector.onnx", backend="onnxruntime", threads=1), pcb, made)
    device = Device(pcb, made, stage, None, layout_for(pcb, made), ItemRecipe())
    found, _ = device.look(0, FolderMoments(pictures, pcb, ("b0", "b1")).load(0))
    rows = np.arange(len(found.detections[: ItemRecipe().most]))
    bits = item_bits(bottleneck, items, items, rows)
    sizes = []
    for row in rows:
        maps = device.evidence(ItemId(SampleId("d", "0" * 16, 1), int(row) + 1), found, None, int(row)).maps
        assert maps is not None
        sizes.append(8 * sum(len(layer.symbols) for layer in maps.layers))
    overhead = np.array(sizes) - bits  # three streams end on whole words
    assert (overhead > -64).all()
    assert (overhead < 3 * 64 + 0.05 * bits).all()


def test_the_command_makes_a_bundle_of_fewer_bits_and_the_same_boxes(
    boards: Path, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--task", "pcb", "--data", str(boards), "--out", str(tmp_path), "--threads", "1"]
    assert main(["train", "bottleneck", *given, "--epochs", "3", "--rate-weight", "3e-2"]) == 0
    told = capsys.readouterr().out
    made = tmp_path / "pcb" / "bottleneck" / "bundle"
    assert "| before |" in told
    assert f"--weights {made}" in told
    profile, base = Profile.load(made), Profile.load(bundle)
    profile.check_trunk(made / "detector.onnx")
    assert profile.sha256 != base.sha256
    assert [v.channels for v in profile.levels] == [v.channels for v in base.levels]
    run = json.loads((tmp_path / "pcb" / "bottleneck" / "run.json").read_text())
    assert run["epochs"][-1]["bits"] < 0.98 * run["before"]["bits"]
    card = json.loads((made / "card.json").read_text())
    assert card["Fingerprint"]["profile_sha256"] == profile.sha256
    assert card["Bottleneck, recipe"]["begun with"] == base.trunk_sha256
    assert not [name for name in card if name.startswith(("Reviewer", "Evidence"))]  # of other codes
    assert main(["train", "bottleneck", *given]) == 3
    assert "is there already" in capsys.readouterr().err
    shutil.rmtree(made)
    again = ["train", "bottleneck", *given, "--epochs", "3", "--resume"]
    assert main([*again, "--rate-weight", "1e-3"]) == 2
    assert "checkpoint.pt: a run that was begun otherwise: recipe (rate_weight 0.03 and" in capsys.readouterr().err
    (made.parent / "checkpoint.pt").write_bytes(b"torn")
    assert main([*again, "--rate-weight", "3e-2"]) == 4
    assert "checkpoint.pt: cannot be gone on from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["--task", "yard"], 2, "--task yard: its fusion model reads the same codes"),
        (["--task", "pcb", "--rate-weight", "-1"], 2, "--rate-weight -1: give nats a bit"),
        (["--task", "pcb", "--weights", "EMPTY"], 4, "a bottleneck begins with a bundle's card and reviewer"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    given: list[str], code: int, message: str, boards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    words = [str(tmp_path / "empty") if word == "EMPTY" else word for word in given]
    assert main(["train", "bottleneck", *words, "--data", str(boards), "--out", str(tmp_path)]) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
