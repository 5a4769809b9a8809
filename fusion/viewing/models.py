"""Which model looks at a recording."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from fusion.errors import ModelError
from fusion.preparation.fusion_spec import SPEC_NAME, FusionSpec
from fusion.recording.base import open_recording
from fusion.task import Task, bundled_tasks

_WITHOUT_MODEL = "'fusion inspect RECORDING --picture OUT.png' draws LiDAR into a camera without a model"


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """A fusion model's folder, what it is, and the task it was made for."""

    task: Task
    folder: Path
    spec: FusionSpec


def choose_model(recording: Path, task: str | None, model: Path | None, split: str | None = None) -> ChosenModel:
    """The model in `model`, or the one bundled for `task` or else for the task that the recording names.

    Raises `ModelError` where no model fits, and when the model is another task's.
    """
    if model is not None:
        return _given(_folder(model), task)
    name = task or open_recording(recording, split=split).info().task
    if not task and name not in bundled_tasks():
        named = f"names the task {name!r}" if name else "names no task"
        raise ModelError(
            f"{recording}: {named}, and no bundled model fits that; give --task (bundled: {_with_models()}) or "
            f"--model FOLDER; {_WITHOUT_MODEL}"
        )
    wanted = Task.load(name)
    folder = _bundle(wanted)
    if not (folder / SPEC_NAME).is_file():
        trained = f"train one with 'fusion train fusion --task {name} --data RECORDING' and give --model FOLDER; "
        raise ModelError(
            f"no fusion model of task {wanted.name} is bundled (only: {_with_models()}); "
            f"{trained if wanted.area is not None else ''}{_WITHOUT_MODEL}"
        )
    return _fitting(wanted, folder, FusionSpec.load(folder))


def _folder(model: Path) -> Path:
    """`model`, or the folder `model/model` that a training run keeps its result in."""
    found = next((folder for folder in (model, model / "model") if (folder / SPEC_NAME).is_file()), None)
    if found is None:
        raise ModelError(f"{model}: no fusion model in it ({SPEC_NAME}); give the folder 'fusion train fusion' wrote")
    return found


def _given(folder: Path, task: str | None) -> ChosenModel:
    spec = FusionSpec.load(folder)
    if task is None and spec.task not in bundled_tasks():
        raise ModelError(f"{folder / SPEC_NAME}: a model of task {spec.task!r}; give that task's file with --task")
    return _fitting(Task.load(task or spec.task), folder, spec)


def _fitting(task: Task, folder: Path, spec: FusionSpec) -> ChosenModel:
    if spec.task != task.name:
        raise ModelError(
            f"{folder / SPEC_NAME}: a model of task {spec.task!r}, not {task.name!r}; give another --model or --task"
        )
    if spec.classes != task.classes or spec.conditions != task.conditions:
        raise ModelError(f"{folder / SPEC_NAME}: its classes are not those of task {task.name}; train it again")
    return ChosenModel(task, folder, spec)


def _bundle(task: Task) -> Path:
    return Path(str(resources.files("fusion").joinpath("weights", task.name)))


def _with_models() -> str:
    """Names of the tasks whose fusion model is bundled."""
    return ", ".join(name for name in bundled_tasks() if (_bundle(Task.load(name)) / SPEC_NAME).is_file()) or "none"
