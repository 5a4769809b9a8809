"""Ultralytics' own detectors by name: where they are looked for, and what training takes of them."""

from pathlib import Path

import pytest
import torch
from ultralytics.utils import SETTINGS, downloads

from fusion.cli import main
from fusion.errors import ModelError, UnavailableError
from fusion.task import Task
from fusion.training.detection.checkpoint import find_checkpoint, is_official, read_checkpoint
from fusion.training.detection.commands import _origin
from fusion.training.detection.low_precision import LowPrecisionTrainer
from fusion.training.detection.origin import origin
from fusion.training.detection.recipe import DetectorRecipe
from fusion.training.detection.trunk import load_detector

COCO = tuple(f"thing {number}" for number in range(80))


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ultralytics' folder of weights, empty; the working folder is another."""
    monkeypatch.setitem(SETTINGS, "weights_dir", str(tmp_path / "weights"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "weights"


def _refuse(*_: object, **__: object) -> None:
    raise ConnectionError("Download failure.\nEnvironment may be offline.")


def test_it_is_looked_for_and_then_downloaded(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(url: str, file: Path, **_: object) -> None:
        asked.append(url.rsplit("/", 1)[1])
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"it")

    monkeypatch.setattr(downloads, "safe_download", download)
    assert find_checkpoint(Path("yolo11n.pt")) == weights / "yolo11n.pt"
    assert _origin(Path("yolo11n.pt")) == str(weights / "yolo11n.pt")
    assert asked == ["yolo11n.pt"]
    Path("yolo11n.pt").write_bytes(b"mine")  # a file here goes first
    assert _origin(Path("yolo11n.pt")) == "yolo11n.pt"


def test_one_that_cannot_be_had_says_where_to_put_it(
    weights: Path, monkeypatch: pytest.MonkeyPatch, task_file: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(downloads, "safe_download", _refuse)
    command = ["train", "detector", "--task", task_file, "--data", root, "--start", "yolo26m.pt"]
    assert main(list(map(str, command))) == UnavailableError.exit_code
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert "yolo26m.pt: ultralytics' own detector is not here and cannot be downloaded (Download failure. Env" in told
    assert f"put it in {weights}" in told
    assert not list(Path.cwd().iterdir())


@pytest.mark.usefixtures("weights")
def test_only_detectors_of_the_three_families_are_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "safe_download", _refuse)
    for other in ("yolo11n-seg.pt", "yolov3u.pt", "yolo11n", "runs/yolo11n.pt", "sam_b.pt"):
        assert not is_official(Path(other))
        with pytest.raises(ModelError, match="nothing to start from there"):
            _origin(Path(other))


def test_training_takes_over_what_fits_and_an_export_refuses_it(random_checkpoint, task: Task) -> None:
    official = random_checkpoint("yolo11n", COCO)
    assert origin(DetectorRecipe(start=str(official), architecture=""), ("red", "green")) == str(official)
    whole = read_checkpoint(official)
    trainer = object.__new__(LowPrecisionTrainer)
    trainer.data = {"names": {0: "red", 1: "green"}, "nc": 2, "channels": 3}
    trainer.args = None
    network = trainer.get_model(whole.yaml, whole, verbose=False)
    assert network.model[-1].nc == 2
    theirs, ours = whole.state_dict(), network.state_dict()
    fit = [name for name, value in theirs.items() if name in ours and ours[name].shape == value.shape]
    assert len(fit) > 0.95 * len(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in fit)
    with pytest.raises(ModelError, match=r"the task has no thing 0, thing 1, .* and 72 more"):
        load_detector(official, task, 64, 64)
