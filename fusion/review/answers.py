"""What a task's slots should say about an item whose truth is known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from fusion.errors import ConfigError
from fusion.review.layout import NOTHING
from fusion.task import Slot, Task
from fusion.types import Box2D, TruthObject

T = TypeVar("T")
MATCH_IOU = 0.4
"""An item is the truth object its box overlaps best, from this intersection over union on: for the fused heads, the
reviewer, and whoever judges them."""

_WITHOUT_OBJECT = {
    "object": NOTHING,
    "condition": "ok",
    "asked": "no",
    "action": "none",
    "defect": "false-alarm",
    "type": "none",
}


def truth_answers(task: Task, truth: TruthObject | None) -> dict[str, str]:
    """The right option of every slot; `truth` is None for an item that is nothing. Raises `ConfigError`."""
    return {slot.name: _answer(task, slot, truth) for slot in task.slots}


def match_truth(box: Box2D, candidates: Iterable[tuple[Box2D, T]], iou: float = MATCH_IOU) -> T | None:
    """What the candidate that overlaps `box` best stands for; None when none reaches `iou`. All boxes in one frame."""
    best, best_iou = None, iou
    for candidate, value in candidates:
        overlap = box.iou(candidate)
        if overlap >= best_iou:
            best, best_iou = value, overlap
    return best


def _answer(task: Task, slot: Slot, truth: TruthObject | None) -> str:
    if slot.name not in _WITHOUT_OBJECT:
        raise ConfigError(f"task {task.name}: truth says nothing about slot {slot.name!r}")
    option = _WITHOUT_OBJECT[slot.name] if truth is None else _of_object(slot.name, truth)
    if option not in slot.options:
        raise ConfigError(f"task {task.name}: slot {slot.name!r} has no option {option!r}, which the truth asks for")
    return option


def _of_object(slot: str, truth: TruthObject) -> str:
    answers = {
        "object": truth.label,
        "condition": truth.condition or "ok",
        "asked": "yes" if truth.asked_for else "no",
        "action": truth.action or "none",
        "defect": "real",
        "type": truth.label,
    }
    return answers[slot]
