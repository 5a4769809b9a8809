"""Two runs compared: everything that a page, a file and an exit code tell of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from fusion.errors import InputError
from replay.compare.causes import Cause
from replay.compare.changes import (
    Change,
    DefectChange,
    Tally,
    defect_changes,
    defect_tallies,
    item_changes,
    presence,
)
from replay.compare.content import with_contents
from replay.compare.diagnosis import diagnose
from replay.compare.matching import Matching, match
from replay.compare.sides import Side
from replay.compare.statistics import Difference, differences
from replay.compare.tolerances import Tolerances


@dataclass(frozen=True, eq=False)
class Comparison:
    """`changes` are the items beyond tolerance, the worst first, `fields` how many of them by field.

    `presence` counts new and gone items, `defects` and `fates` tell of true defects. `causes` are what it looks like.
    """

    before: Side
    after: Side
    tolerances: Tolerances
    matching: Matching
    changes: tuple[Change, ...]
    fields: tuple[Tally, ...]
    presence: tuple[Tally, ...]
    fates: tuple[DefectChange, ...]
    defects: tuple[Tally, ...]
    differences: tuple[Difference, ...]
    causes: tuple[Cause, ...]

    @cached_property
    def findings(self) -> tuple[str, ...]:
        """What is beyond tolerance, a line each; nothing where the runs agree."""
        counted = [
            f"{_FINDINGS.get(one.name, one.name + ' differs')}: {one.count} of {one.total}, {one.allowed} allowed"
            for one in (*self.presence, *self.defects, *self.fields)
            if one.beyond
        ]
        worse = [
            f"{one.title} ({one.slice.name}) is worse: {one.before:.4g} before, {one.after:.4g} now, p {one.p:.2g}"
            for one in self.differences
            if one.worse
        ]
        one_sided = [
            f"recording {one.name} is only in the {side} run"
            for side, recordings in (("first", self.matching.gone), ("second", self.matching.new))
            for one in recordings
        ]
        return (*one_sided, *counted, *worse)

    @property
    def agrees(self) -> bool:
        """Whether nothing is beyond tolerance."""
        return not self.findings


_FINDINGS = {
    "new": "items only in the second run",
    "gone": "items only in the first run",
    "newly_missed": "true defects newly missed",
    "newly_found": "true defects newly found",
}


def compare(before: Side, after: Side, tolerances: Tolerances) -> Comparison:
    """Compare two runs of one task. Raises `InputError` where they are of different ones."""
    tasks = before.results.task.name, after.results.task.name
    if tasks[0] != tasks[1]:
        raise InputError(f"{after.path}: a run of task {tasks[1]}, and {before.path} one of {tasks[0]}")
    before, after = with_contents(before), with_contents(after)
    matching = match(before.results, after.results, tolerances.matching)
    if not matching.recordings:
        raise InputError(f"{after.path}: has no recording in common with {before.path}; compare runs of the same ones")
    changes, fields = item_changes(matching, tolerances.fields)
    fates = defect_changes(matching)
    return Comparison(
        before, after, tolerances, matching, tuple(changes), tuple(fields),
        tuple(presence(matching, changes, tolerances)), tuple(fates),
        tuple(defect_tallies(matching, fates, tolerances.defects)),
        tuple(differences(before.results.task, matching, tolerances.metrics)),
        tuple(diagnose(before, after, matching)),
    )  # fmt: skip
