"""What `fusion train` is given: `all` is every task whose weights are bundled, each from its own data."""

from pathlib import Path

import pytest

from fusion.cli import main
from fusion.errors import ConfigError
from fusion.training import commands


def test_given_pictures_are_those_of_the_tasks_that_cannot_be_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for step in ("_detector", "_fusion", "_reviewer"):
        monkeypatch.setattr(commands, step, lambda task, given: seen.append((task.name, given.data, given.resume)))
    assert main(["train", "all", "--data", "BOARDS", "--resume"]) == 0
    assert set(seen) == {("pcb", Path("BOARDS"), True), ("yard", None, True)}


@pytest.mark.parametrize("model", ["detector", "bottleneck", "fusion", "reviewer", "projector", "lora", "all"])
def test_a_training_of_no_epochs_is_refused_before_it_begins(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", model, "--epochs", "0"])
    assert "argument --epochs: 0: give a whole number from 1 on" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["pcb", "kitti"])
def test_a_task_without_a_fused_model_of_items_has_none_to_measure(
    task: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "fusion", "--task", task, "--out", str(tmp_path)]) == ConfigError.exit_code
    assert f"task {task} has no fused model that is measured on scenes" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())
