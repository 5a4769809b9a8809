"""What a person says about an item: the form's slots, and what came back as a `Correction`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cloud_node.ledger import UNSURE, Correction, Record
from cloud_node.outcome import Outcome
from fusion.errors import InputError
from fusion.task import Task
from fusion.types import ItemId

MAX_NOTE = 2000
MAX_OPTIONS = 64
"""Options and slots shown of a task that is not known here."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a slot. `probability` is the verdict's, None where it gave none."""

    name: str
    probability: float | None
    answered: bool
    checked: bool


@dataclass(frozen=True, slots=True)
class SlotForm:
    """One slot; the last option is `UNSURE`."""

    name: str
    question: str
    options: tuple[Option, ...]


def slot_forms(record: Record, tasks: Mapping[str, Task], entered: Mapping[str, str] | None = None) -> list[SlotForm]:
    """The slots of an item. Checked is what was `entered`, else what was said last, else what the verdict answered."""
    said = dict(record.correction.answers) if record.correction else {}
    verdict = record.outcome.verdict
    answers = verdict.slots if verdict else {}
    forms = []
    for name, question, options in _slots(record.outcome, tasks):
        answer = answers.get(name)
        checked = (entered if entered is not None else said).get(name) or (answer.option if answer else "")
        shown = tuple(
            Option(
                option,
                answer.probabilities.get(option) if answer else None,
                answered=answer is not None and answer.option == option,
                checked=checked == option,
            )
            for option in (*options, UNSURE)
        )
        forms.append(SlotForm(name, question, shown))
    return forms


def correction_of(
    item: ItemId, author: str, fields: Mapping[str, str], forms: Sequence[SlotForm], *, confirmed: bool
) -> Correction:
    """What the form's `fields` say; `confirmed` takes the verdict's answers as they are.

    Raises `InputError` for an option that a slot does not have, or when nothing is said.
    """
    note = fields.get("note", "").strip()
    if len(note) > MAX_NOTE:
        raise InputError(f"the note has {len(note)} characters; {MAX_NOTE} are allowed")
    answers = {}
    for form in forms:
        if confirmed:
            told = next((option.name for option in form.options if option.answered), "")
        else:
            told = fields.get(f"answer.{form.name}", "")
        if told and told not in (option.name for option in form.options):
            raise InputError(f"{form.name}: {told[:100]!r} is none of its options")
        if told:
            answers[form.name] = told
    if not answers:
        raise InputError("nothing was chosen; choose an option in a slot, or unsure")
    return Correction(item, author, time.time_ns(), answers, note)


def entered(fields: Mapping[str, str]) -> dict[str, str]:
    """The answers among a form's fields, by slot."""
    return {
        name.removeprefix("answer."): value for name, value in fields.items() if name.startswith("answer.") and value
    }


def _slots(outcome: Outcome, tasks: Mapping[str, Task]) -> list[tuple[str, str, Sequence[str]]]:
    """Name, question and options: the task's, and of a task not known here what the verdict has."""
    task = tasks.get(outcome.task)
    answered = outcome.verdict.slots if outcome.verdict else {}
    known = {slot.name: (slot.question, slot.options) for slot in task.slots} if task else {}
    if task and all(
        name in known and set(answer.probabilities) <= set(known[name][1]) for name, answer in answered.items()
    ):
        return [(name, question, options) for name, (question, options) in known.items()]
    return [
        (name, "", sorted(answer.probabilities)[:MAX_OPTIONS]) for name, answer in list(answered.items())[:MAX_OPTIONS]
    ]
