"""What decides an outcome is in its stamp: a changed model, calibration or setting is noticed, and named."""

import shutil
from importlib import resources
from pathlib import Path

import pytest

from fusion.review import load_reviewer
from replay.running.plan import Job, Plan, Variant
from replay.running.stamp import Stamps, digest_of

JOB = Job("a", "a.mcap")
MODELS = str(resources.files("fusion").joinpath("weights", "yard"))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return Path(shutil.copytree(str(resources.files("fusion").joinpath("weights", "yard")), tmp_path / "models"))


def stamp(*sets: str, models: str = "", reviewer: str = "", job: Job = JOB):
    variant = Variant(models=models, reviewer=reviewer, sets=sets)
    return Stamps(Plan("yard", (job,), (variant,))).of(job, variant).with_recording("c" * 64)


def test_the_same_is_the_same() -> None:
    assert stamp().key == stamp().key
    assert stamp().differences(stamp().parts) == ""


def test_another_recording_is_another() -> None:
    other = stamp().with_recording("d" * 64)
    assert other.key != stamp().key
    assert other.differences(stamp().parts) == "the recording"


def test_a_setting_or_a_stretch_is_named() -> None:
    assert stamp("edge.screening.uncertain_below=0.2").differences(stamp().parts) == "the settings"
    assert stamp(job=Job("a", "a.mcap", from_s=1.0)).differences(stamp().parts) == "the settings"


def test_a_changed_model_is_noticed_though_it_has_the_same_name(models: Path) -> None:
    before = stamp(models=str(models))
    with (models / "fuser.onnx").open("ab") as file:
        file.write(b"\0")
    assert stamp(models=str(models)).differences(before.parts) == "the device's models"


def test_a_changed_reviewer_is_noticed(models: Path) -> None:
    name = f"mini:{models / 'reviewer'}"
    before = stamp(reviewer=name)
    assert stamp(reviewer=name).key == before.key
    (models / "reviewer" / "more.json").write_text("{}")
    assert stamp(reviewer=name).differences(before.parts) == "the reviewer"
    assert (
        stamp(reviewer=f"ray:[{name}]?gpus=0")
        .parts["reviewers"]
        .endswith(stamp(reviewer=name).parts["reviewers"][-64:])
    )


def test_a_changed_calibration_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text("{}")
    setting = f"edge.screening.calibration={path}"
    before = stamp(setting)
    path.write_text("{ }")
    assert stamp(setting).differences(before.parts) == "the calibration"


def test_a_changed_task_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    shutil.copy(str(resources.files("fusion").joinpath("tasks", "yard.toml")), path)

    def of():
        return Stamps(Plan(str(path), (JOB,), (Variant(models=MODELS, reviewer="fixed:yard"),))).of(
            JOB, Variant(models=MODELS, reviewer="fixed:yard")
        )

    before = of()
    path.write_text(path.read_text() + "\n# changed\n")
    assert of().differences(before.parts) == "the task's file"


@pytest.mark.parametrize("option", ["projector", "calibration"])
def test_what_a_reviewers_options_name_is_looked_at(option: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "more").mkdir()
    (tmp_path / "more/weights").write_text("a")
    for name in (f"hf:{tmp_path}/model?task=yard&{option}={tmp_path}/more", f"ray:[hf:x?{option}={tmp_path}/more]"):
        before = stamp(reviewer=name)
        (tmp_path / "more/weights").write_text((tmp_path / "more/weights").read_text() + "b")
        assert stamp(reviewer=name).differences(before.parts) == "the reviewer"


def test_a_folder_called_like_the_task_is_not_its_reviewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = stamp()
    (tmp_path / "yard").mkdir()
    (tmp_path / "yard/a.mcap").write_text("a recording")
    monkeypatch.chdir(tmp_path)
    assert stamp().parts["reviewers"] == usual.parts["reviewers"]
    assert load_reviewer("mini:yard").name.startswith("mini:yard@")


def test_names_count_in_a_folder_and_not_where_it_lies(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text("x")
    assert digest_of(tmp_path / "one") == digest_of(tmp_path / "two")
    (tmp_path / "two" / "a").rename(tmp_path / "two" / "b")
    assert digest_of(tmp_path / "one") != digest_of(tmp_path / "two")
