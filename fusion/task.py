"""A task: classes, sensors, verdict slots and costs, described by one TOML file in `datasets/`."""

from __future__ import annotations

import hashlib
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from fusion.config import Settings, load_toml
from fusion.errors import ConfigError
from fusion.types import Modality

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


class Sensor(Settings):
    """One sensor of a task. Pixels for cameras, hertz for rates."""

    modality: Modality
    rate_hz: float = Field(gt=0)
    width: int = Field(default=0, ge=0)
    height: int = Field(default=0, ge=0)
    sample_rate_hz: int = Field(default=0, ge=0)


class Slot(Settings):
    """One enumerated question of the verdict."""

    name: Name
    question: str
    options: tuple[Name, ...] = Field(min_length=2)


class Costs(Settings):
    """What a missed item and a review cost, in units of one review."""

    missed: float = Field(default=20.0, gt=0)
    review: float = Field(default=1.0, gt=0)


class Area(Settings):
    """The ground a task is about: from and to along the ego frame's axes, metres."""

    x: tuple[float, float]
    y: tuple[float, float]
    z: tuple[float, float]

    @model_validator(mode="after")
    def _ordered(self) -> Area:
        for axis in ("x", "y", "z"):
            low, high = getattr(self, axis)
            if not low < high:
                raise ValueError(f"{axis} goes from {low} to {high}; the first must be less")
        return self


class Labels(Settings):
    """How the labels of an image folder of this task are written."""

    form: Name = "yolo"


class Task(Settings):
    """Everything a node must know about a task; `Task.load("yard")` finds a bundled one by name, or a file by path.

    `ordinary` are the conditions that are no defect. A task without conditions looks for defects alone.
    """

    name: Name
    title: str
    prompt: str
    source: str = ""
    classes: tuple[Name, ...] = Field(min_length=1)
    conditions: tuple[Name, ...] = ()
    ordinary: tuple[Name, ...] = ()
    intents: tuple[Name, ...] = ()
    sensors: dict[Name, Sensor] = Field(min_length=1)
    slots: tuple[Slot, ...] = Field(min_length=1)
    costs: Costs = Costs()
    labels: Labels = Labels()
    area: Area | None = None

    @model_validator(mode="after")
    def _unique(self) -> Task:
        for what, names in (("classes", self.classes), ("slots", [s.name for s in self.slots])):
            if len(set(names)) != len(names):
                raise ValueError(f"{what} holds a name twice")
        if unknown := set(self.ordinary) - set(self.conditions):
            raise ValueError(f"ordinary holds {min(unknown)!r}, which is none of the conditions")
        return self

    @classmethod
    def load(cls, name_or_path: str) -> Task:
        """A bundled task by name (`yard`, `pcb`) or a TOML file by path. Raises `ConfigError`."""
        path = Path(name_or_path)
        if path.suffix != ".toml":
            path = Path(str(resources.files("fusion").joinpath("tasks", f"{name_or_path}.toml")))
            if not path.is_file():
                raise ConfigError(f"no task named {name_or_path!r}; bundled: {', '.join(bundled_tasks())}")
        return load_toml(path, cls)

    def of_modality(self, modality: Modality) -> tuple[str, ...]:
        """Names of the task's sensors of one modality, in file order."""
        return tuple(name for name, sensor in self.sensors.items() if sensor.modality is modality)

    def is_defect(self, label: str, condition: str | None) -> bool:
        """Whether a thing of class `label` in `condition` is what the task looks for."""
        ordinary = bool(self.conditions) and condition in (None, *self.ordinary)
        return label in self.classes and not ordinary

    @cached_property
    def prompt_sha256(self) -> str:
        """Digest of everything the reviewer is asked: prompt, slots, questions and options."""
        text = "\n".join([self.prompt, *(f"{s.name}|{s.question}|{'|'.join(s.options)}" for s in self.slots)])
        return hashlib.sha256(text.encode()).hexdigest()


def bundled_tasks() -> list[str]:
    """Names of the tasks that come with the package."""
    folder = resources.files("fusion").joinpath("tasks")
    return sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml"))


def tasks_with_weights() -> list[str]:
    """Names of those bundled tasks whose weights come with the package, too: data of the others forbids it."""
    weights = resources.files("fusion").joinpath("weights")
    return [name for name in bundled_tasks() if weights.joinpath(name).is_dir()]
