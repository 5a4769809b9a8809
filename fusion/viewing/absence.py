"""Sensors that a model shall do without."""

from __future__ import annotations

from collections.abc import Sequence

from fusion.errors import ConfigError
from fusion.task import Task
from fusion.types import Modality


def withheld_sensors(names: Sequence[str], task: Task) -> frozenset[str]:
    """The task's sensors that `names` mean: a modality is all of its sensors. Raises `ConfigError` for other names."""
    found: set[str] = set()
    for name in names:
        meant = task.of_modality(Modality(name)) if name in set(Modality) else ()
        meant = meant or ((name,) if name in task.sensors else ())
        if not meant:
            kinds = sorted({sensor.modality.value for sensor in task.sensors.values()})
            known = ", ".join(dict.fromkeys([*kinds, *task.sensors]))
            raise ConfigError(f"--without {name}: task {task.name} has no such sensor; there are: {known}")
        found |= set(meant)
    return frozenset(found)
