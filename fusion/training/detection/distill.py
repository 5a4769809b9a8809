"""`fusion distill`: a teacher, a student that learnt from it, and a table of what that was worth."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion.errors import ConfigError, ModelError
from fusion.training.bundle import GRAPH_NAME
from fusion.training.detection.architectures import (
    DEFAULT,
    NAMES,
    Network,
    class_names,
    named,
    new_network,
    same_family,
)
from fusion.training.detection.checkpoint import SUFFIX, find_checkpoint, read_checkpoint, write_checkpoint
from fusion.training.detection.origin import origin
from fusion.training.detection.recipe import DetectorRecipe
from fusion.training.detection.runs import check_run, content_of, decides, told_in
from fusion.training.detection.tiles import data_names
from fusion.training.detection.train import train_detector
from fusion.training.detection.validation import measure_checkpoint
from fusion.training.detection.warm_start import bundle_network

if TYPE_CHECKING:
    from fusion.training.detection.distillation import Lesson

TABLE_NAME = "distill.json"
_TEACHERS, _ALONE, _DISTILLED = "teacher", "alone", "distilled"
TEACHER, ALONE, DISTILLED = "teacher", "student alone", "student distilled"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A student to be made. `teacher` is a checkpoint, a folder of a run or a bundle, or the name of an architecture,
    which is then trained first for `teacher_epochs`. `compare` trains the student alone as well, by the same `recipe`.

    `weights` are those of the terms (see `fusion.training.detection.distillation.Lesson`), by name; others are default.
    """

    teacher: str
    recipe: DetectorRecipe
    teacher_epochs: int | None = None
    compare: bool = False
    resume: bool = False
    weights: dict[str, float] = field(default_factory=dict)


def distill_detector(data_yaml: Path, out: Path, wanted: Wanted) -> dict[str, dict[str, Any]]:
    """Train the student under `out` and write the table there after each row; returns the table.

    Raises, before anything is trained, `ModelError` when teacher and student are not of one family or do not know the
    same classes, or the student cannot begin with its start, and `ConfigError` when a run would write over another or
    go on with one that was begun otherwise.
    """
    from fusion.training.detection.distillation import DistillationTrainer, Lesson

    names = data_names(data_yaml)
    origin(wanted.recipe, names)
    lesson = Lesson(**wanted.weights)
    taught_by = {"teacher": _told(wanted), "lesson": asdict(lesson)}
    _check_runs(data_yaml, out, wanted, taught_by)
    teacher, how = _teacher(wanted, data_yaml, out, names)
    _check_pair(read_checkpoint(teacher), teacher, _student(wanted.recipe, names), names)
    rows: dict[str, dict[str, Any]] = {}
    rows[TEACHER] = measure_checkpoint(teacher, data_yaml, wanted.recipe, out) | {"trained": how}
    _write(rows, out)
    if wanted.compare:
        started = time.monotonic()
        weights = train_detector(data_yaml, out / _ALONE, wanted.recipe, resume=wanted.resume)
        rows[ALONE] = _row(weights, data_yaml, wanted.recipe, out, started, None)
        _write(rows, out)
    started = time.monotonic()
    weights = train_detector(
        data_yaml,
        out / _DISTILLED,
        wanted.recipe,
        resume=wanted.resume,
        trainer=partial(DistillationTrainer, lesson=lesson),
        extra={"distill_model": str(teacher.absolute()), "dis": lesson.maps},
        decided_by=taught_by,
    )
    rows[DISTILLED] = _row(weights, data_yaml, wanted.recipe, out, started, lesson)
    _write(rows, out)
    return rows


def check_teacher(teacher: str) -> None:
    """Raise `ModelError` or `InputError` when there is no such teacher; see `Wanted`."""
    given = Path(teacher)
    if teacher in NAMES or (given / GRAPH_NAME).is_file():
        return
    if not given.exists():
        raise ModelError(
            f"--teacher {teacher}: no such checkpoint or folder, and no architecture; architectures are {NAMES[0]} to "
            f"{NAMES[-1]}"
        )
    find_checkpoint(given)


def _teacher(wanted: Wanted, data_yaml: Path, out: Path, names: Sequence[str]) -> tuple[Path, dict[str, Any]]:
    """The teacher's checkpoint and how it came to be; trained, read from a bundle, or as it is."""
    given = Path(wanted.teacher)
    if wanted.teacher in NAMES:
        recipe = _teachers_recipe(wanted)
        _check_pair(
            new_network(wanted.teacher, len(names)), given, _student(wanted.recipe, names), names, by_name=False
        )
        started = time.monotonic()
        weights = train_detector(data_yaml, out / _TEACHERS, recipe, resume=wanted.resume)
        return weights, told_in(out, recipe) | {"minutes": _minutes(started)}
    if wanted.teacher_epochs is not None:
        raise ConfigError(f"--teacher-epochs trains a teacher, but {wanted.teacher} is one already; leave it out")
    if (given / GRAPH_NAME).is_file():
        network = bundle_network(given, names)
        return write_checkpoint(network, out / f"teacher{SUFFIX}"), {"from": f"the bundle {given.name}"}
    return find_checkpoint(given), {"from": f"the checkpoint {given.name}"}


def _teachers_recipe(wanted: Wanted) -> DetectorRecipe:
    recipe = replace(wanted.recipe, architecture=wanted.teacher, start="")
    return recipe if wanted.teacher_epochs is None else replace(recipe, epochs=wanted.teacher_epochs)


def _told(wanted: Wanted) -> str:
    """Who teaches, as a run remembers it."""
    if wanted.teacher in NAMES:
        return f"{wanted.teacher} of {_teachers_recipe(wanted).epochs} epochs"
    given = Path(wanted.teacher)
    return content_of(given if (given / GRAPH_NAME).is_file() else find_checkpoint(given))


def _check_runs(data_yaml: Path, out: Path, wanted: Wanted, taught_by: Mapping[str, object]) -> None:
    for name in runs_of(wanted):
        recipe = _teachers_recipe(wanted) if name == _TEACHERS else wanted.recipe
        others = taught_by if name == _DISTILLED else {}
        check_run(out / name, decides(recipe, data_yaml, **others), start=recipe.start, resume=wanted.resume)


def runs_of(wanted: Wanted) -> list[str]:
    """The folders of the detectors that are trained."""
    return [*([_TEACHERS] if wanted.teacher in NAMES else []), *([_ALONE] if wanted.compare else []), _DISTILLED]


def _student(recipe: DetectorRecipe, names: Sequence[str]) -> Network:
    """A network like the one that will be trained, to be looked at."""
    if recipe.start.endswith(SUFFIX):
        return read_checkpoint(Path(recipe.start))
    return new_network(recipe.architecture or DEFAULT, len(names))


def _check_pair(teacher: Network, where: Path, student: Network, names: Sequence[str], *, by_name: bool = True) -> None:
    if not same_family(teacher, student):
        raise ModelError(
            f"{where}: a {named(teacher)} cannot teach a {named(student)}; teacher and student must be of one family, "
            "whose maps and boxes mean the same"
        )
    if by_name and class_names(teacher) != tuple(names):
        raise ModelError(
            f"{where}: the teacher knows {', '.join(class_names(teacher))}; the data has "
            f"{', '.join(names)}, and so, in this order, must the teacher"
        )


def _row(
    weights: Path, data_yaml: Path, recipe: DetectorRecipe, out: Path, started: float, lesson: Lesson | None
) -> dict[str, Any]:
    how = told_in(out, recipe) | {"minutes": _minutes(started)} | ({"lesson": asdict(lesson)} if lesson else {})
    return measure_checkpoint(weights, data_yaml, recipe, out) | {"trained": how}


def _minutes(started: float) -> float:
    return round((time.monotonic() - started) / 60, 1)


def _write(rows: dict[str, dict[str, Any]], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / TABLE_NAME).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
