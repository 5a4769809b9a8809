"""A defect that was in clear view only while frames were held back is a miss, too."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fusion.task import Task
from replay.results.fates import defects
from replay.results.records import Fate


@pytest.mark.parametrize(("continuous", "unseen"), [(True, 1), (False, 3)])
def test_what_nobody_looked_at_is_missed(draw, continuous, unseen):
    recording, task = draw.recording(8), Task.load("yard")
    run = draw.run(recording, task)
    (leaking, *others) = [thing for thing in recording.objects(0) if task.is_defect(thing.label, thing.condition)]
    truths = list(recording.truth())
    early = [replace(truth, objects=(leaking,)) for truth in truths[:3]]  # three frames that were held back
    seen = [
        replace(sample, truths=tuple(thing for thing in truth.objects if thing.track != leaking.track))
        for sample, truth in zip(run.samples[3:], truths[3:], strict=True)
    ]
    items = [item for item in run.items if item.time_ns >= truths[3].time_ns and item.truth.track != leaking.track]
    with_them = defects(task, "drawn", seen, items, continuous=continuous, passed_over=early)
    without = defects(task, "drawn", seen, items, continuous=continuous)
    added = [one for one in with_them if one not in without]
    assert with_them[: len(without)] == without
    assert len(added) == unseen
    assert {(one.fate, one.moments, one.condition) for one in added} == {(Fate.UNSEEN, 0, leaking.condition)}
    shown = [replace(sample, truths=truth.objects) for sample, truth in zip(run.samples, truths, strict=True)]
    all_seen = defects(task, "drawn", shown, run.items, continuous=continuous)
    assert defects(task, "drawn", shown, run.items, continuous=continuous, passed_over=truths) == all_seen
    assert len(others) > 0
