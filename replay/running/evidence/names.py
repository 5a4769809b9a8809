"""Names in recorded evidence: those of the task, or what they are told of cannot be judged, counted or shown."""

from __future__ import annotations

from edge_node.spool.copying import Row
from fusion.errors import InputError
from fusion.review.layout import NOTHING
from fusion.task import Task
from fusion.types import ItemId


def check_names(task: Task, item: ItemId, row: Row) -> None:
    """`row` is the item's, JSON columns as values. Raises `InputError` naming the item, the column and the name."""
    scores, opinion, labels = row["scores"], row["opinion"], (*task.classes, NOTHING)
    for column, names, known in (
        ("label", [row["label"]], task.classes),
        ("scores.class", scores.get("class", ()), task.classes),
        ("scores.condition", scores.get("condition", ()), task.conditions),
        ("opinion.label", opinion.get("label", ()), labels),
        ("opinion.condition", opinion.get("condition", ()), task.conditions),
    ):
        if strange := [name for name in names if name not in known]:
            those = ", ".join(known) or "it has none"
            raise InputError(f"{item}: {column} {strange[0]!r} is none of task {task.name}'s: {those}")
