"""A worse detector never replaces a better one, and a card tells what a detector is."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fusion.codec.synthetic import synthetic_profile
from fusion.errors import ModelError
from fusion.evaluation.detection import DetectionMetrics
from fusion.recording.pictures.image_folder import ImageFolder
from fusion.task import Task
from fusion.training.bundle import write_card
from fusion.training.detection import make
from fusion.training.detection.recipe import DetectorRecipe

Rounds = Callable[..., dict[str, float]]


@pytest.fixture
def offer(task: Task, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rounds:
    """Offers a detector of these figures to the folder `bundle`; returns what its card then says it is held to."""
    folder = tmp_path / "bundle"

    def measure(_task: Task, where: Path, pictures: object, **_: object) -> DetectionMetrics:
        count = len(list(pictures))
        figures = json.loads((where / "detector.onnx").read_text())
        return DetectionMetrics(count, *figures)

    def export(_weights: Path, _task: Task, _images: object, staging: Path) -> object:
        staging.mkdir(parents=True, exist_ok=True)
        for name in ("profile.json", "profile.npz"):
            (staging / name).write_text("{}")
        (staging / "detector.onnx").write_text(measure.offered)
        return SimpleNamespace(sha256="s", trunk_sha256="t")

    monkeypatch.setattr(make, "read_checkpoint", lambda _: SimpleNamespace(names=dict(enumerate(task.classes))))
    monkeypatch.setattr(make, "measure_detector", measure)
    monkeypatch.setattr(make, "export_detector", export)

    def run(map50: float, map50_95: float, data: Path = root) -> dict[str, float]:
        measure.offered = json.dumps([map50, map50_95])
        make.bundle_detector(task, root, Path("x.pt"), folder, {}, staging=tmp_path / "staging", test=data, threads=1)
        return json.loads((folder / "card.json").read_text())["Held to"]

    return run


def test_it_is_held_to_what_the_bundled_one_finds_on_the_same_pictures(offer: Rounds, tmp_path: Path) -> None:
    offer(0.8, 0.5)
    card = tmp_path / "bundle" / "card.json"
    told = json.loads(card.read_text())
    told["Metrics"] |= {"images": 500, "map50": 0.1}  # of other pictures: it does not count
    told["Held to"]["pictures_sha256"] = "others"
    card.write_text(json.dumps(told))
    with pytest.raises(ModelError, match=r"mAP50 0\.700 of the new detector is below the bundled 0\.800; kept that"):
        offer(0.7, 0.6)
    with pytest.raises(ModelError, match=r"mAP50-95 0\.100 of the new detector is below the bundled 0\.500"):
        offer(0.9, 0.1)
    with pytest.raises(ModelError, match="mAP50 nan"):
        offer(float("nan"), 0.9)
    assert json.loads((tmp_path / "bundle" / "detector.onnx").read_text()) == [0.8, 0.5]
    assert offer(0.8 - make.MAY_LOSE / 2, 0.7)["map50"] == 0.8


def test_a_bundle_that_could_not_be_finished_stays_as_it_was(
    offer: Rounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(0.8, 0.5)
    bundle = tmp_path / "bundle"
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    assert {"SHA256SUMS", "card.json", "card.md", "detector.onnx", "profile.json", "profile.npz"} == {*before}

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(make, "write_card", full)
        with pytest.raises(OSError, match="No space"):
            offer(0.9, 0.6)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]
    assert offer(0.9, 0.6)["map50"] == 0.9


def test_small_losses_do_not_add_up(offer: Rounds) -> None:
    offer(0.8, 0.5)
    offer(0.796, 0.5)
    with pytest.raises(ModelError, match=r"mAP50 0\.792 of the new detector is below the bundled 0\.800"):
        offer(0.792, 0.5)


def test_other_pictures_begin_anew(offer: Rounds, root: Path, pictures: ImageFolder, tmp_path: Path) -> None:
    offer(0.8, 0.5)
    offer(0.796, 0.5)
    other = tmp_path / "other"
    for part in ("images", "labels"):
        (other / part).mkdir(parents=True)
    for stem in pictures.stems("test")[:3]:
        path = pictures.image_path(stem)
        (other / "images" / path.name).write_bytes(path.read_bytes())
        (other / "labels" / f"{stem}.txt").write_bytes(pictures.label_path(stem).read_bytes())
    (other / "test.txt").write_text("\n".join(pictures.stems("test")[:3]))
    assert offer(0.792, 0.5, other)["map50"] == 0.796


def test_where_its_graph_is_gone_the_card_holds(offer: Rounds, tmp_path: Path) -> None:
    offer(0.8, 0.5)
    folder = tmp_path / "bundle"
    (folder / "detector.onnx").unlink()
    with pytest.raises(ModelError, match=r"mAP50-95 0\.400 of the new detector is below the bundled 0\.500"):
        offer(0.9, 0.4)
    write_card(folder, "Detector", {"Metrics": {"map50": 0.8}})  # as earlier builds wrote it
    assert offer(0.8, 0.1)["map50_95"] == 0.1


def test_what_nothing_can_be_held_to_is_told_before_anything_is_trained(task: Task, tmp_path: Path) -> None:
    make.check_held(task, tmp_path / "none")
    (tmp_path / "detector.onnx").write_bytes(b"graph")
    synthetic_profile(task="squares").save(tmp_path)
    make.check_held(task, tmp_path)
    synthetic_profile(task="circles").save(tmp_path)
    with pytest.raises(ModelError, match="holds a detector of task 'circles', not of 'squares'; give another folder"):
        make.make_detector(task, tmp_path, tmp_path, tmp_path, DetectorRecipe(), test=tmp_path)


def test_a_card_that_tells_nothing_of_a_detector_is_let_be(offer: Rounds, tmp_path: Path) -> None:
    offer(0.8, 0.5)
    (tmp_path / "bundle" / "card.json").write_text(json.dumps({"Variant": {"precision": "int8"}}))
    with pytest.raises(ModelError, match=r"card\.json: tells no mAP50"):
        offer(0.9, 0.9)


def test_a_card_tells_the_architecture_of_a_start_and_only_its_name(random_checkpoint, tmp_path: Path) -> None:
    weights = random_checkpoint("yolo11n")
    run = tmp_path / "runs" / "mine" / "weights"
    bundle = tmp_path / "weights" / "pcb"
    for folder in (run, bundle):
        folder.mkdir(parents=True)
    starts = {"": "", str(weights): "yolo11n.pt", str(run / "best.pt"): "mine", str(bundle): "pcb"}
    for start, name in starts.items():
        told = make.told_of(DetectorRecipe(architecture="", start=start, epochs=3), weights)
        assert (told["architecture"], told["start"], told["epochs"]) == ("yolo11n", name, 3)
        assert str(tmp_path) not in json.dumps(told)
