"""A user's own checkpoint: taken as it is, or refused in one clear line."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel, SegmentationModel

from fusion.cli import main
from fusion.errors import InputError, ModelError
from fusion.task import Task
from fusion.training.detection.architectures import check_detector, class_names
from fusion.training.detection.checkpoint import find_checkpoint, read_checkpoint, unfinished
from fusion.training.detection.trunk import load_detector


def _kept(network: torch.nn.Module, path: Path) -> Path:
    torch.save({"model": network, "epoch": -1, "train_args": {}}, path)
    return path


def test_what_ultralytics_wrote_is_read(tmp_path: Path) -> None:
    network = DetectionModel("yolo26n.yaml", nc=2, verbose=False)  # both heads
    network.names = {0: "red", 1: "green"}
    read = read_checkpoint(_kept(network, tmp_path / "own.pt"))
    assert class_names(read) == ("red", "green")
    assert read.model[-1].one2one_cv2 is None
    assert not read.training


def test_what_is_no_detector_says_so(tmp_path: Path) -> None:
    (tmp_path / "picture.pt").write_bytes(b"\x89PNG not a pickle")
    (tmp_path / "graph.onnx").write_bytes(b"onnx")
    torch.save([1, 2, 3], tmp_path / "list.pt")
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, tmp_path / "state.pt")
    _kept(SegmentationModel("yolov8n-seg.yaml", nc=2, verbose=False), tmp_path / "masks.pt")
    _kept(DetectionModel("yolov8n-p2.yaml", nc=2, verbose=False), tmp_path / "fine.pt")
    fused = DetectionModel("yolo26n.yaml", nc=2, verbose=False).eval()
    fused.end2end = True
    _kept(fused.fuse(verbose=False), tmp_path / "fused.pt")
    for name, message in {
        "none.pt": "no such checkpoint",
        "picture.pt": "not a checkpoint that ultralytics can read",
        "graph.onnx": r"those end in \.pt",
        "list.pt": "not a checkpoint that ultralytics can read",
        "state.pt": "not a checkpoint that ultralytics can read",
        "masks.pt": "its head is a Segment",
        "fine.pt": r"strides \(4, 8, 16, 32\); a trunk has \(8, 16, 32\)",
        "fused.pt": "one-to-many head was removed",
    }.items():
        with pytest.raises(ModelError, match=message) as caught:
            read_checkpoint(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def _odd(names: object = None, model: object = None) -> DetectionModel:
    network = DetectionModel("yolov8n.yaml", nc=2, verbose=False)
    network.names = {0: "red", 1: "green"} if names is None else names
    if model is not None:
        network.model = model
    return network


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: _odd({1: "red", 2: "green"}), "class names are not numbered from 0"),
        (lambda: _odd({"0": "red", "1": "green"}), "class names are not numbered from 0"),
        (lambda: _odd({0: "red", 1: "green", 2: "blue"}), "names 3 classes, but its head tells 2"),
        (lambda: _odd(["red"]), "names 1 classes, but its head tells 2"),
        (lambda: _odd(model=torch.nn.Identity()), "not a checkpoint that ultralytics can read"),
    ],
)
def test_a_detector_that_is_not_put_together_says_what_is_wrong(network, message: str, tmp_path: Path) -> None:
    path = _kept(network(), tmp_path / "odd.pt")
    with pytest.raises(ModelError, match=message) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("model", [torch.nn.Identity(), torch.nn.Sequential(), 7])
def test_a_network_without_layers_says_so(model: object) -> None:
    with pytest.raises(ModelError, match=r"a\.pt: its network is no row of layers"):
        check_detector(SimpleNamespace(model=model), Path("a.pt"))


def test_a_list_of_names_will_do(tmp_path: Path) -> None:
    assert class_names(read_checkpoint(_kept(_odd(["red", "green"]), tmp_path / "list.pt"))) == ("red", "green")


def _last(folder: Path, epoch: int, epochs: int = 3) -> Path:
    """The last checkpoint of a run, as the trainer leaves it after an epoch, and the best."""
    folder.mkdir(parents=True)
    for name in ("last.pt", "best.pt"):
        stored = {"epoch": epoch, "model": None, "ema": _odd().half(), "optimizer": {"big": 1}, "train_args": {}}
        stored["train_args"] = {"epochs": epochs}
        torch.save(stored, folder / name)
    return folder / "last.pt"


def test_a_run_goes_on_until_its_last_epoch(tmp_path: Path) -> None:
    assert not unfinished(tmp_path / "none.pt")
    assert unfinished(_last(tmp_path / "begun", 1))
    assert torch.load(tmp_path / "begun" / "last.pt", weights_only=False)["optimizer"]
    last = _last(tmp_path / "stopped", 2)  # killed before the trainer put it away
    assert not unfinished(last)
    for path in (last, last.with_name("best.pt")):
        stored = torch.load(path, weights_only=False)
        assert (stored["epoch"], stored["optimizer"], stored["ema"]) == (-1, None, None)
        assert class_names(read_checkpoint(path)) == ("red", "green")
    assert not unfinished(last)


def test_a_torn_run_cannot_go_on(tmp_path: Path) -> None:
    last = _last(tmp_path / "run" / "weights", 1)
    for data in (last.read_bytes()[:5000], b""):
        last.write_bytes(data)
        with pytest.raises(ModelError, match=r"last\.pt: not a checkpoint .*; .* remove \S*/run, or give another"):
            unfinished(last)


def test_the_best_checkpoint_alone_is_no_finished_run(tmp_path: Path) -> None:
    last = _last(tmp_path / "run" / "weights", 1)
    last.unlink()
    with pytest.raises(ModelError, match=r"last\.pt: not there beside best\.pt; .* remove \S*/run, or give"):
        unfinished(last)


def test_an_official_name_is_not_loaded_anew_over_the_users_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("yolo11n.pt").write_bytes(b"mine, torn")
    with pytest.raises(ModelError, match="not a checkpoint"):
        read_checkpoint(Path("yolo11n.pt"))
    assert Path("yolo11n.pt").read_bytes() == b"mine, torn"


def test_other_classes_are_no_trunk_of_the_task(random_checkpoint, task: Task) -> None:
    with pytest.raises(ModelError, match="not those of task squares"):
        load_detector(random_checkpoint("yolov8n", ("green", "red")), task, 64, 64)
    with pytest.raises(ModelError, match="nothing of it is a green; train it on that task's data"):
        load_detector(random_checkpoint("yolov8n", ("red",)), task, 64, 64)
    with pytest.raises(ModelError, match=r"yolov8n\.pt: .* the task has no cat"):
        load_detector(random_checkpoint("yolov8n", ("red", "green", "cat")), task, 64, 64)


def test_a_runs_folder_stands_for_its_best(tmp_path: Path) -> None:
    (tmp_path / "run" / "weights").mkdir(parents=True)
    (tmp_path / "run" / "weights" / "best.pt").write_bytes(b"")
    assert find_checkpoint(tmp_path / "run") == tmp_path / "run" / "weights" / "best.pt"
    with pytest.raises(InputError, match=r"holds no weights/best\.pt of a finished run"):
        find_checkpoint(tmp_path)


def test_the_command_refuses_before_it_trains(
    tmp_path: Path, task_file: Path, root: Path, random_checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(*options: str | Path) -> str:
        common = ["train", "detector", "--task", task_file, "--data", root, "--out", tmp_path / "runs"]
        assert main([*map(str, common), *map(str, options)]) != 0
        return capsys.readouterr().err

    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "notes.txt").write_text("hello")
    assert "nothing to start from" in train("--start", tmp_path / "none.pt")
    assert "training starts from an ultralytics checkpoint .pt" in train("--start", tmp_path / "notes.txt")
    assert "not a checkpoint that ultralytics can read" in train("--start", tmp_path / "text.pt")
    assert "no detector is called 'yolov9t'" in train("--architecture", "yolov9t")
    assert "leave out --architecture" in train("--start", random_checkpoint("yolov8n"), "--architecture", "yolo11n")
    assert "a detector learns on cpu or cuda" in train("--device", "tpu")
    assert "--batch 0: give 1 or more" in train("--batch", "0")
