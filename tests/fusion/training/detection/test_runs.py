"""A run never writes over weights, and goes on with nothing but what it was begun with."""

import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fusion.cli import main
from fusion.errors import ConfigError, ModelError
from fusion.training.detection.distill import Wanted, distill_detector
from fusion.training.detection.low_precision import LowPrecisionTrainer
from fusion.training.detection.prune import prune_detector
from fusion.training.detection.recipe import DetectorRecipe
from fusion.training.detection.runs import check_run, content_of, decides, keep_recipe, refuse_taken, told_in
from fusion.training.detection.train import train_detector


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that left weights."""
    folder = tmp_path / "run"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "last.pt").write_bytes(b"good")
    return folder


def test_a_folder_with_weights_is_taken(run: Path, tmp_path: Path) -> None:
    refuse_taken(tmp_path / "new")
    refuse_taken(run, resume=True)
    with pytest.raises(ConfigError, match="holds the weights of a run; give another --out, go on with it by --resume"):
        refuse_taken(run)
    for resume in (True, False):
        with pytest.raises(ConfigError, match=r"last\.pt lies in .*run, where this run writes; give another --out"):
            refuse_taken(run, start=str(run / "weights" / "last.pt"), resume=resume)


def test_a_run_goes_on_with_what_it_was_begun_with(run: Path, data_yaml: Path, recipe: DetectorRecipe) -> None:
    keep_recipe(run, decides(recipe, data_yaml, teacher="one"))
    assert check_run(run, decides(replace(recipe, threads=9, device="cuda"), data_yaml, teacher="one"), resume=True)
    other = decides(replace(recipe, architecture="yolov8m", epochs=9), data_yaml, teacher="two")
    with pytest.raises(ConfigError) as caught:
        check_run(run, other, resume=True)
    for told in ("architecture 'yolov8n' and not 'yolov8m'", "epochs 7 and not 9", "teacher 'one' and not 'two'"):
        assert told in str(caught.value)
    assert "batch" not in str(caught.value)
    with pytest.raises(ConfigError, match="data '"):
        check_run(run, decides(recipe, run / "data.yaml", teacher="one"), resume=True)  # of another's making


def test_an_earlier_builds_run_goes_on_with_a_warning(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert check_run(run, {"epochs": 3}, resume=True)
    assert "does not tell by which recipe it was begun" in caplog.text


def test_a_run_without_weights_begins_anew(run: Path) -> None:
    keep_recipe(run, {"epochs": 2})
    shutil.rmtree(run / "weights")
    assert not check_run(run, {"epochs": 3}, resume=True)
    assert not check_run(run, {"epochs": 3})


def test_a_start_is_told_as_it_is_found_from_the_folder(run: Path, tmp_path: Path) -> None:
    starts = {
        "": "",
        str(tmp_path / "cut.pt"): "cut.pt",
        str(run / "weights" / "best.pt"): "run/weights/best.pt",
        str(tmp_path.parent / "mine" / "weights" / "best.pt"): "mine",
        str(tmp_path.parent / "bundle"): "bundle",
    }
    for start, told in starts.items():
        assert told_in(tmp_path, DetectorRecipe(start=start, epochs=3)) == asdict(DetectorRecipe(start=told, epochs=3))


def test_a_start_is_known_by_its_content(run: Path, tmp_path: Path) -> None:
    file = run / "weights" / "last.pt"
    told = content_of(file)
    assert told == content_of(Path(shutil.copy(file, tmp_path / "last.pt")))
    file.write_bytes(b"better")
    assert told != content_of(file)


@pytest.mark.parametrize(
    ("command", "taken"),
    [
        ("train detector", "detector"),
        ("train detector --start {taken}", "detector"),
        ("distill --teacher yolov8s", "distill/teacher"),
        ("distill --teacher yolov8s", "distill/distilled"),
        ("distill --teacher {taken} --compare", "distill/alone"),
        ("prune --start {taken}", "prune/trained"),
        ("prune --start {taken}/weights/best.pt --resume", "prune"),
    ],
)
def test_no_command_writes_over_weights(
    command: str, taken: str, task_file: Path, root: Path, tmp_path: Path, random_checkpoint, capsys
) -> None:
    where = tmp_path / "runs" / "squares" / taken
    best = where / "weights" / "best.pt"
    best.parent.mkdir(parents=True)
    shutil.copy(random_checkpoint("yolov8n"), best)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    options = ["--task", task_file, "--data", root, "--out", tmp_path / "runs", "--image-size", 64]
    assert main([*command.format(taken=where).split(), *map(str, options)]) == ConfigError.exit_code
    assert str(where) in capsys.readouterr().err.strip().splitlines()[-1]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


class Spoilt(LowPrecisionTrainer):
    """As if every loss were nan: no epoch is the best."""

    def save_model(self) -> None:
        super().save_model()
        self.best.unlink()


def test_a_finished_run_stays_what_it_is(data_yaml: Path, recipe: DetectorRecipe, tmp_path: Path) -> None:
    out, short = tmp_path / "run", replace(recipe, epochs=1, batch=28)
    with pytest.raises(ModelError, match="no epoch was good enough to be kept"):
        train_detector(data_yaml, out, short, trainer=Spoilt)
    best = train_detector(data_yaml, out, short, resume=True)
    held = best.read_bytes()
    with pytest.raises(ConfigError, match="holds the weights of a run"):
        train_detector(data_yaml, out, short)
    with pytest.raises(ConfigError, match="architecture 'yolov8n' and not 'yolov8m'"):
        train_detector(data_yaml, out, replace(short, architecture="yolov8m"), resume=True)
    assert train_detector(data_yaml, out, short, resume=True) == best
    assert best.read_bytes() == held


def test_a_run_of_which_the_last_epoch_is_lost_neither_goes_on_nor_is_finished(
    data_yaml: Path, recipe: DetectorRecipe, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    (out / "weights").mkdir(parents=True)
    (out / "weights" / "best.pt").write_bytes(b"of the first epochs")
    keep_recipe(out, decides(recipe, data_yaml))
    with pytest.raises(ModelError, match=r"remove .*run, or give another --out"):
        train_detector(data_yaml, out, recipe, resume=True)


def test_another_share_does_not_go_on_with_what_was_pruned(
    data_yaml: Path, recipe: DetectorRecipe, tmp_path: Path, random_checkpoint
) -> None:
    start, out, cut_only = random_checkpoint("yolov8n"), tmp_path / "prune", replace(recipe, epochs=0, architecture="")
    prune_detector(data_yaml, start, 0.3, out, cut_only)
    held = (out / "pruned.pt").read_bytes()
    with pytest.raises(ConfigError, match="holds the weights of a run"):
        prune_detector(data_yaml, start, 0.3, out, cut_only)
    with pytest.raises(ConfigError, match=r"share 0\.3 and not 0\.5"):
        prune_detector(data_yaml, start, 0.5, out, cut_only, resume=True)
    with pytest.raises(ConfigError, match=r"lies in .*prune"):
        prune_detector(data_yaml, out / "pruned.pt", 0.3, out, cut_only, resume=True)
    assert (out / "pruned.pt").read_bytes() == held


def test_another_teacher_does_not_go_on_with_a_student(
    run: Path, data_yaml: Path, recipe: DetectorRecipe, random_checkpoint
) -> None:
    student = run.rename(run.with_name("distilled"))
    keep_recipe(student, decides(recipe, data_yaml, teacher="yolov8s of 7 epochs"))
    with pytest.raises(ConfigError, match=r"teacher 'yolov8s of 7 epochs' and not 'yolov8n\.pt \("):
        distill_detector(data_yaml, run.parent, Wanted(str(random_checkpoint("yolov8n")), recipe, resume=True))
    with pytest.raises(ConfigError, match="teacher 'yolov8s of 7 epochs' and not 'yolov8s of 9 epochs'"):
        distill_detector(data_yaml, run.parent, Wanted("yolov8s", recipe, 9, resume=True))
    assert [path.name for path in run.parent.iterdir() if path.is_dir()] == ["distilled"]
