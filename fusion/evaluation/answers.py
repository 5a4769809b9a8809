"""What the device alone would have answered, slot by slot: the rivals of the reviewer."""

from __future__ import annotations

from collections.abc import Mapping

from fusion.errors import ConfigError
from fusion.review.layout import NOTHING
from fusion.task import Task
from fusion.types import DeviceOpinion

ASKED = 0.5


def device_answers(task: Task, opinion: DeviceOpinion) -> dict[str, str]:
    """The fused heads' answer to every slot; empty when the device has no fused heads.

    What should be done follows from the other answers by the task's rule; about `nothing` nothing is claimed.
    """
    if not opinion.label_scores:
        return {}
    label = _best(opinion.label_scores)
    if label == NOTHING:
        return _answers(task, NOTHING, "ok", asked=False)
    condition = _best(opinion.condition_scores) if opinion.condition_scores else "ok"
    return _answers(task, label, condition, asked=(opinion.asked_score or 0.0) >= ASKED)


def detector_answers(
    task: Task,
    class_scores: Mapping[str, float],
    *,
    condition_scores: Mapping[str, float] | None = None,
    threshold: float = 0.0,
    condition: str = "ok",
) -> dict[str, str]:
    """The bare detector's answer to every slot: its best class, or nothing under `threshold`, and its best condition.

    One that does not tell conditions says the usual `condition`. It never heard what was asked for.
    """
    if condition_scores and any(condition_scores.values()):
        condition = _best(condition_scores)
    label = _best(class_scores) if class_scores else NOTHING
    if not class_scores or class_scores[label] < threshold:
        return _answers(task, NOTHING, "ok", asked=False)
    return _answers(task, label, condition, asked=False)


def _answers(task: Task, label: str, condition: str, *, asked: bool) -> dict[str, str]:
    there = label != NOTHING
    known = {
        "object": label,
        "condition": condition,
        "asked": "yes" if asked else "no",
        "defect": "real" if there else "false-alarm",
        "type": label if there else "none",
    }
    answers = {}
    for slot in task.slots:
        if slot.name == "action":
            answers[slot.name] = _action(label, condition, asked=asked) if there else "none"
        elif slot.name in known:
            answers[slot.name] = known[slot.name]
        else:
            raise ConfigError(f"task {task.name}: the device has no answer to slot {slot.name!r}")
    return answers


def _action(label: str, condition: str, *, asked: bool) -> str:
    from fusion.simulation import action_for

    return action_for(label, condition, asked)


def _best(scores: Mapping[str, float]) -> str:
    return max(scores, key=lambda name: scores[name])
