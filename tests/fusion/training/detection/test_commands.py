"""The commands about detectors: a checkpoint becomes a bundle, and what is wrong is one line that says what to do."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fusion.cli import main
from fusion.codec import Profile
from fusion.errors import ConfigError, InputError, ModelError
from fusion.training.bundle import made_elsewhere
from fusion.training.detection.architectures import new_network, parameters
from fusion.training.detection.warm_start import bundle_network

Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, task_file: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command that must fail by one line, having written nothing."""

    def run(command: str, *options: str | Path, error: type[Exception] = ConfigError) -> str:
        where = tmp_path / "refused"
        common = [*command.split(), "--task", task_file, "--data", root, "--out", where]
        assert main([*map(str, common), *map(str, options)]) == error.exit_code
        told = capsys.readouterr().err.strip().splitlines()
        assert len(told) == 1, told
        assert not where.exists()
        return told[0]

    return run


def test_a_checkpoint_becomes_a_bundle_that_can_be_gone_on_from(
    taught: Path, task_file: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "squares"
    run = taught.parent.parent  # the folder of the run stands for its best
    command = ["export", "detector", "--task", task_file, "--weights", run, "--data", root, "--out", out]
    made_by = ["--made-by", "fusion distill and then more"]
    assert main([*map(str, command), "--threads", "1", *made_by]) == 0
    told = capsys.readouterr().out
    assert "on 10 images" in told  # the test split's
    assert f"wrote {out}" in told
    Profile.load(out).check_trunk(out / "detector.onnx")
    card = json.loads((out / "card.json").read_text())
    assert card["Recipe"]["architecture"] == "yolov8n"
    assert card["Recipe"]["parameters"] == parameters(new_network("yolov8n", 2))
    assert (card["Recipe"]["epochs"], card["Recipe"]["learning_rate"]) == (7, 0.005)
    assert made_elsewhere(out) == "fusion distill and then more"
    assert 0.5 < card["Metrics"]["map50"] <= 1
    assert str(tmp_path) not in (out / "card.json").read_text()
    assert {path.name for path in out.iterdir()} == {
        "card.json", "card.md", "detector.onnx", "profile.json", "profile.npz", "SHA256SUMS"
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["squares"]
    bundle_network(out, ["red", "green"])
    assert main([*map(str, command), "--threads", "1"]) == InputError.exit_code
    assert f"{out}: is there already" in capsys.readouterr().err


def test_what_an_export_lacks(refused: Refused, bundle: Path, random_checkpoint, tmp_path: Path) -> None:
    assert "float32 bundle already" in refused("export detector", "--weights", bundle)
    assert "give both or neither" in refused("export detector", "--weights", bundle, "--precision", "fp16")
    assert "give both or neither" in refused("export detector", "--weights", bundle, "--engine", "tensorrt")
    assert "--max-loss 1.5" in refused("export detector", "--weights", bundle, "--max-loss", "1.5")
    assert "none.pt: no such checkpoint" in refused(
        "export detector", "--weights", tmp_path / "none.pt", error=ModelError
    )
    assert "not those of task squares in their order" in refused(
        "export detector", "--weights", random_checkpoint("yolov8n", ("green", "red")), error=ModelError
    )
    assert "only a detector is built for TensorRT" in refused("export fusion", "--precision", "fp16")


def test_an_export_without_a_folder_says_so(task_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "detector", "--task", str(task_file)]) == ConfigError.exit_code
    assert "needs --out" in capsys.readouterr().err


def test_what_distillation_lacks(refused: Refused, random_checkpoint, tmp_path: Path) -> None:
    teacher = random_checkpoint("yolov8n")
    (tmp_path / "run").mkdir()
    assert "--teacher yolov9t: no such checkpoint or folder, and no architecture" in refused(
        "distill", "--teacher", "yolov9t", error=ModelError
    )
    assert "holds no weights/best.pt" in refused("distill", "--teacher", tmp_path / "run", error=InputError)
    assert "--teacher-epochs 0: give 1 or more" in refused("distill", "--teacher", "yolov8s", "--teacher-epochs", "0")
    assert "--image-size 0: give a multiple of 32" in refused("distill", "--teacher", teacher, "--image-size", "0")
    assert "--device cuda:9: this machine has" in refused("distill", "--teacher", teacher, "--device", "cuda:9")
    assert "no detector is called 'yolov3'" in refused("distill", "--teacher", teacher, "--architecture", "yolov3")


@pytest.mark.parametrize("term", ["maps", "classes", "boxes"])
@pytest.mark.parametrize("weight", ["nan", "inf", "-0.5"])
def test_a_term_weighs_a_number_from_0_on(term: str, weight: str, refused: Refused, tmp_path: Path) -> None:
    told = refused("distill", "--teacher", tmp_path / "any.pt", f"--{term}-weight={weight}")
    assert f"--{term}-weight {weight}: give 0 or more" in told


def test_a_teacher_of_another_family_is_refused(
    task_file: Path, root: Path, tmp_path: Path, random_checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["distill", "--task", task_file, "--data", root, "--out", tmp_path, "--image-size", "64"]
    teacher = random_checkpoint("yolo11n")
    assert main([*map(str, command), "--teacher", str(teacher)]) == ModelError.exit_code
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "a yolo11n cannot teach a yolov8n; teacher and student must be of one family" in told
    assert not list((tmp_path / "squares").rglob("*.pt"))


def test_what_pruning_lacks(refused: Refused, bundle: Path, random_checkpoint, tmp_path: Path) -> None:
    start = random_checkpoint("yolov8n")
    assert "--share 1.0" in refused("prune", "--start", start, "--share", "1")
    assert "--mosaic 1.5: give a share from 0 to 1" in refused("prune", "--start", start, "--mosaic", "1.5")
    assert "--learning-rate 0: give more than 0" in refused("prune", "--start", start, "--learning-rate", "0")
    assert "--image-size 300: give a multiple of 32, as 320" in refused("prune", "--start", start, "--image-size=300")
    assert "--seed -1: give 0 or more" in refused("prune", "--start", start, "--seed", "-1")
    assert "--epochs -1: give 0 or more" in refused("prune", "--start", start, "--epochs", "-1")
    assert "a detector learns on cpu or cuda" in refused("prune", "--start", start, "--device", "tpu")
    assert "holds no weights/best.pt" in refused("prune", "--start", bundle, error=InputError)
    assert "none.pt" in refused("prune", "--start", tmp_path / "none.pt", error=ModelError)
