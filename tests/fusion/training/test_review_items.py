"""Labelled moments → cached items, through the device's own evidence."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion.codec.synthetic import synthetic_maps, synthetic_profile
from fusion.perception.detector import DetectorResult
from fusion.preparation import Placement
from fusion.recording.pictures.image_folder import ImageFolder, LabelForm
from fusion.review.item_cache import ItemCache, begin_cache, shard_path, write_shard
from fusion.review.layout import layout_for
from fusion.simulation import Split
from fusion.simulation.scene_set import write_scene_set
from fusion.task import Task
from fusion.training.review_items import Device, ItemRecipe, build_item_cache
from fusion.training.review_sources import FolderMoments, YardMoments, held_out
from fusion.types import Box2D, Detection, Image

BOXES = [(40, 50, 90, 110), (150, 160, 190, 200)]


class DetectorOfMarks:
    """Finds the dark marks of `picture`, and a false alarm in the corner."""

    def __init__(self, task: Task) -> None:
        self.task, self.profile = task, synthetic_profile(task="pcb", image_height=640)
        self.maps = synthetic_maps(self.profile)

    def run(self, image: Image) -> DetectorResult:
        placement = Placement(2.0, 0.0, 0.0)
        dark = (image.pixels.max(2) < 90).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(dark)
        corners = [(x, y, x + w, y + h) for x, y, w, h, area in stats[1:] if area > 200] + [(300, 300, 310, 315)]
        found = []
        for number, values in enumerate(corners):
            box = placement.from_frame(Box2D(*map(float, values)))
            scores = np.zeros(6, np.float32)
            scores[0] = 0.9 - 0.1 * number
            found.append(Detection(box, "open", float(scores[0]), scores))
        cells = [np.zeros(self.profile.map_size(i), np.float32) for i in range(3)]
        return DetectorResult(tuple(found), self.maps, cells, placement, 0)


@pytest.fixture
def folder(tmp_path: Path) -> ImageFolder:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    pixels = np.full((320, 320, 3), 220, np.uint8)
    for x1, y1, x2, y2 in BOXES:
        pixels[y1:y2, x1:x2] = 20
    cv2.imwrite(str(tmp_path / "images/a.png"), pixels)
    (tmp_path / "labels/a.txt").write_text("".join(f"{' '.join(map(str, b))} {k + 3}\n" for k, b in enumerate(BOXES)))
    return ImageFolder(tmp_path, form=LabelForm.DEEPPCB, classes=Task.load("pcb").classes)


def device(recipe: ItemRecipe) -> Device:
    task = Task.load("pcb")
    detector = DetectorOfMarks(task)
    return Device(task, detector.profile, detector, None, layout_for(task, detector.profile), recipe)


def test_items_carry_the_truth_they_overlap(folder: ImageFolder, tmp_path: Path) -> None:
    task, machine = Task.load("pcb"), device(ItemRecipe(iou=0.33))
    source = FolderMoments(folder, task, ("a",))
    items = machine.items(0, 0, source.load(0))
    said = sorted(tuple(item.truth.values()) for item in items)
    assert said == [("false-alarm", "none"), ("real", "mousebite"), ("real", "spur")]
    assert all(item.features.crop is not None and item.features.maps is not None for item in items)
    assert {item.features.crop[48, 48].max() < 90 for item in items} == {True, False}
    begin_cache(tmp_path / "cache", task, machine.layout, machine.profile)
    write_shard(tmp_path / "cache", 0, items, task, machine.layout)
    cache = ItemCache.load(tmp_path / "cache")
    np.testing.assert_allclose(cache.columns["class_scores"][:, 0], [0.9, 0.8, 0.7], rtol=1e-6)
    assert not cache.columns["label_scores"].any()
    assert (cache.columns["evidence_bytes"] > 0).all()


def test_at_most_so_many_items(folder: ImageFolder) -> None:
    source = FolderMoments(folder, Task.load("pcb"), ("a",))
    assert len(device(ItemRecipe(most=1)).items(0, 0, source.load(0))) == 1


def test_variants_move_boxes_with_the_picture(folder: ImageFolder) -> None:
    source = FolderMoments(folder, Task.load("pcb"), ("a",), variants=9)
    pictures = []
    for index in range(len(source)):
        moment = source.load(index)
        assert source.scene(index) == 0
        pictures.append(moment.image.pixels.tobytes())
        for thing in moment.truth:
            box = thing.box2d
            inside = moment.image.pixels[int(box.y1) + 4 : int(box.y2) - 4, int(box.x1) + 4 : int(box.x2) - 4]
            assert inside.size
            assert inside.mean() < 60
    assert len(set(pictures)) == 9
    assert source.load(3).image.pixels.tobytes() == pictures[3]


def test_held_out_pictures_are_the_detectors_own_validation() -> None:
    train, held = held_out([str(i) for i in range(100)])
    assert held == ("5", "25", "45", "65", "85")
    assert len(train) == 95
    assert not set(train) & set(held)


def test_items_of_other_models_are_not_taken_for_these(tmp_path: Path) -> None:
    machine = device(ItemRecipe())
    folder = tmp_path / "cache"
    begin_cache(folder, machine.task, machine.layout, machine.profile, {"fuser.onnx": "one"})
    write_shard(folder, 0, [], machine.task, machine.layout)
    begin_cache(folder, machine.task, machine.layout, machine.profile, {"fuser.onnx": "one"})
    assert shard_path(folder, 0).is_file()
    begin_cache(folder, machine.task, machine.layout, machine.profile, {"fuser.onnx": "another"})
    assert not shard_path(folder, 0).is_file()


def test_items_of_other_labels_are_not_taken_for_these(
    folder: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, recipe, cache = Task.load("pcb"), ItemRecipe(iou=0.33), tmp_path / "cache"
    monkeypatch.setattr(Device, "load", lambda task, bundle, recipe: device(recipe))

    def built() -> list[str]:
        source = FolderMoments(folder, task, ("a",))
        build_item_cache(cache, task, tmp_path / "bundle", source, recipe, quiet=True)
        slot = next(at for at, slot in enumerate(task.slots) if "spur" in slot.options)
        return sorted(task.slots[slot].options[told] for told in ItemCache.load(cache).columns["truth"][:, slot])

    assert built() == ["mousebite", "none", "spur"]
    written = shard_path(cache, 0).stat().st_mtime_ns
    assert built() == ["mousebite", "none", "spur"]
    assert shard_path(cache, 0).stat().st_mtime_ns == written  # used again
    label = folder.label_path("a")
    label.write_text(label.read_text().replace(" 3\n", " 1\n"))
    assert built() == ["none", "open", "spur"]


def test_pictures_are_known_by_what_decides_their_moments_and_not_by_where_they_lie(
    folder: ImageFolder, tmp_path: Path
) -> None:
    for name in ("images/a.png", "labels/a.txt"):
        shutil.copy(tmp_path / name, (tmp_path / name).with_stem("b"))
    source = FolderMoments(folder, Task.load("pcb"), ("a", "b"))
    elsewhere = shutil.copytree(tmp_path, tmp_path.with_name("elsewhere"))
    moved = replace(source, folder=ImageFolder(elsewhere, form=folder.form, classes=folder.classes))
    assert moved.facts() == source.facts()
    others = [replace(source, **other) for other in ({"stems": ("a", "c")}, {"stems": ("b", "a")}, {"variants": 2})]
    cv2.imwrite(str(tmp_path / "images/c.png"), np.zeros((320, 320, 3), np.uint8))
    told = [source.facts(), *(one.facts() for one in others), replace(source, seed=8).facts()]
    cv2.imwrite(str(elsewhere / "images/a.png"), np.zeros((320, 320, 3), np.uint8))
    told.append(moved.facts())
    assert len(set(told)) == len(told)


def test_scenes_are_known_by_what_decides_their_moments_and_not_by_where_they_lie(tmp_path: Path) -> None:
    root, yard = tmp_path / "scenes", Task.load("yard")
    write_scene_set(root, Split.VAL, 2, 90)
    source = YardMoments.of_split(root, yard, "val")
    assert replace(source, root=shutil.copytree(root, tmp_path / "elsewhere")).facts() == source.facts()
    others = ({"stems": source.stems[:1]}, {"absent": 0.1}, {"seed": 8})
    told = [source.facts(), *(replace(source, **other).facts() for other in others)]
    truth = root / "truth" / f"{source.stems[0]}.json"
    held = truth.read_text()
    for spoilt in (held.replace("0", "1", 1), held):
        truth.write_text(spoilt)
        told.append(source.facts())
    assert len(set(told)) == len(told) - 1
    assert told[-1] == told[0]
