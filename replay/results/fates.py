"""What became of each true defect: found, or missed, and where.

A unit is what calibration counts, too: a thing with something wrong with it that came into clear view, in unrelated
pictures a thing of one picture. All fates are misses of the system as a whole but `FOUND` and, where no service was
part of the run, `SENT`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edge_node.calibration.watching import Visible
from fusion.task import Task
from fusion.types import ItemState, Truth, TruthObject
from replay.results.records import DefectResult, Fate, ItemResult, SampleResult

_FATES = {
    ItemState.PENDING: Fate.WAITING,
    ItemState.EXPIRED: Fate.EXPIRED,
    ItemState.QUARANTINED: Fate.QUARANTINED,
    ItemState.SHED: Fate.SHED,
    ItemState.DEDUPLICATED: Fate.ELSEWHERE,
    ItemState.PASSED: Fate.PASSED,
}
_ORDER = {fate: place for place, fate in enumerate(Fate)}


@dataclass(slots=True)
class _Unit:
    thing: TruthObject
    time_ns: int
    moments: int = 1
    fate: Fate = Fate.UNSEEN


def defects(
    task: Task,
    recording: str,
    samples: Iterable[SampleResult],
    items: Iterable[ItemResult],
    *,
    continuous: bool,
    visible: Visible | None = None,
    passed_over: Iterable[Truth] = (),
    reviewed: bool = True,
) -> tuple[DefectResult, ...]:
    """Every defect that came into clear view in `samples`, in order of its first sight, with what became of it; then
    those that did so only where frames were `passed_over`, which nobody saw. `reviewed` is False where no service was
    part of the run.
    """
    shown, units = visible or Visible(), dict[tuple[int, int], _Unit]()
    for sample in samples:
        for thing in sample.truths or ():
            if not task.is_defect(thing.label, thing.condition) or not shown.shows(thing):
                continue
            key = thing.track, 0 if continuous else sample.time_ns
            if key in units:
                units[key].moments += 1
            else:
                units[key] = _Unit(thing, sample.time_ns)
    for truth in passed_over:
        for thing in truth.objects:
            key = thing.track, 0 if continuous else truth.time_ns
            if key not in units and task.is_defect(thing.label, thing.condition) and shown.shows(thing):
                units[key] = _Unit(thing, truth.time_ns, 0)
    for item in items:
        if item.truth and (unit := units.get((item.truth.track, 0 if continuous else item.time_ns))):
            unit.fate = min(unit.fate, fate_of(task, item, reviewed=reviewed), key=_ORDER.__getitem__)
    return tuple(
        DefectResult(unit_name(*key), recording, u.thing.label, u.thing.condition or "", u.time_ns, u.moments, u.fate)
        for key, u in units.items()
    )


def fate_of(task: Task, item: ItemResult, *, reviewed: bool = True) -> Fate:
    """What this item alone makes of the defect it is about, in a run that a service was part of or not."""
    if not reviewed and item.state is ItemState.PENDING:
        return Fate.SENT
    if item.state is ItemState.REVIEWED:
        return Fate.DISMISSED if dismisses(task, item) else Fate.FOUND
    return _FATES[item.state]


def dismisses(task: Task, item: ItemResult) -> bool:
    """Whether the verdict says with confidence that there is nothing wrong; a doubtful one goes to a person."""
    said = {name: answer.option for name, answer in item.verdict.items()}
    nothing = said.get("object") == "nothing" or said.get("defect") == "false-alarm"
    return not item.uncertain and (nothing or said.get("condition") in task.ordinary)


def unit_name(track: int, time_ns: int) -> str:
    """What a defect is called: by its track, in unrelated pictures (`time_ns` is not 0) with the picture's time."""
    return f"{track}@{time_ns}" if time_ns else str(track)
