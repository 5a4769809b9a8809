"""What a model that was not trained for a task is asked, in words."""

from __future__ import annotations

from fusion.task import Task


def question(task: Task) -> str:
    """What is asked, in words: the task's prompt, each slot with its options, and the form of the answer."""
    asked = [f"- {slot.name}: {slot.question} One of: {', '.join(slot.options)}." for slot in task.slots]
    form = ", ".join(f'"{slot.name}": "..."' for slot in task.slots)
    return "\n".join([task.prompt, *asked, f"Answer as JSON: {{{form}}}"])
