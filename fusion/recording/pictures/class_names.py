"""Class names of data sets, as tasks write them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fusion.errors import RecordingError
from fusion.task import Task


def class_name(name: str) -> str:
    """`name` in lower case, with dashes for all but letters and digits: `traffic light` is `traffic-light`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def check_classes(place: str, names: Iterable[str], task: Task) -> None:
    """Raise `RecordingError` when one of `names`, which stand at `place`, is no class of the task."""
    names = sorted(set(names))
    unknown = [name for name in names if name not in task.classes]
    if unknown:
        raise RecordingError(
            f"{place}: task {task.name} does not know {', '.join(unknown)}; its classes are {', '.join(task.classes)}, "
            f"the data's are {', '.join(names)}"
        )
