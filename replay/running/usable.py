"""Whether a recording has what a device of the task makes its samples of."""

from __future__ import annotations

from edge_node.config import EdgeSettings
from edge_node.sources import Source
from fusion.errors import RecordingError
from fusion.synchronization import Synchronizer
from fusion.task import Task


def check_usable(path: str, source: Source, task: Task, edge: EdgeSettings) -> None:
    """Raise `RecordingError` for a recording without a reading of the reference sensor: it would give no sample."""
    reference = Synchronizer.of_task(task, edge.synchronizer).reference
    if reference in source.sensors:
        return
    modality = task.sensors[reference].modality.value
    has = ", ".join(sorted(source.sensors)) or "nothing"
    raise RecordingError(
        f"{path}: nothing of {modality} {reference!r}, and task {task.name} makes a sample of each of its readings; "
        f"it has {has}; look at it with 'fusion inspect {path}'"
    )
