"""What became of each true defect: hand-made cases, and calibration's own counting on a stretch of the patrol."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.calibration.watching import Visible, watch
from edge_node.config import EdgeSettings
from edge_node.models import camera_of, load_perception, model_folder
from fusion.config import from_overrides
from fusion.synchronization import Synchronizer
from fusion.task import Task
from fusion.types import Box2D, ItemState, SlotAnswer, TruthObject
from replay.cli import main
from replay.report.defect_list import WORST_FIRST, deciding, defect_list, missed_items, worst_first
from replay.results.fates import defects, fate_of
from replay.results.records import DefectResult, Fate, ItemResult, SampleResult

YARD, PCB = Task.load("yard"), Task.load("pcb")
STEP = 100_000_000
FATES = {
    ItemState.PENDING: Fate.WAITING,
    ItemState.EXPIRED: Fate.EXPIRED,
    ItemState.QUARANTINED: Fate.QUARANTINED,
    ItemState.SHED: Fate.SHED,
    ItemState.DEDUPLICATED: Fate.ELSEWHERE,
    ItemState.PASSED: Fate.PASSED,
}


def thing(track, condition="leaking", *, label="drum", visibility=1.0, side=40.0):
    return TruthObject(track, label, condition, Box2D(10, 10, 10 + side, 60), None, False, "none", visibility)


def sample(number, *truths):
    return SampleResult(number, number, number * STEP, 1.0, 1.0, 1.0, 1.0, {}, "", truths)


def item(number, truth, state=ItemState.PASSED, said="", *, uncertain=False):
    verdict = {"condition": SlotAnswer(said, {said: 0.9})} if said else {}
    return ItemResult(
        f"d/e/{number}#{truth.track if truth else 0}", number, number * STEP, 1, Box2D(0, 0, 9, 9), "drum", 0.5, state,
        (), uncertain=uncertain, verdict=verdict, truth=truth, recording="r",
    )  # fmt: skip


def fates(samples, items, task=YARD, *, continuous=True):
    return {one.name: one.fate for one in defects(task, "r", samples, items, continuous=continuous)}


@pytest.mark.parametrize(("state", "fate"), FATES.items())
def test_an_item_that_was_not_reviewed_has_the_fate_of_its_state(state, fate):
    drum = thing(7)
    assert fates([sample(1, drum)], [item(1, drum, state)]) == {"7": fate}


def test_without_a_service_what_waits_is_sent_and_not_missed():
    drum, bare = thing(7), thing(8)
    items = [item(1, drum, ItemState.PENDING), item(1, bare)]
    found = defects(YARD, "r", [sample(1, drum, bare)], items, continuous=True, reviewed=False)
    assert [(one.fate, one.fate.missed) for one in found] == [(Fate.SENT, False), (Fate.PASSED, True)]


def test_a_defect_nothing_was_seen_of_is_unseen():
    assert fates([sample(1, thing(7))], [item(1, None)]) == {"7": Fate.UNSEEN}


@pytest.mark.parametrize(
    ("said", "uncertain", "fate"),
    [("ok", False, Fate.DISMISSED), ("ok", True, Fate.FOUND), ("dented", False, Fate.FOUND)],
)
def test_a_review_finds_unless_it_is_sure_that_nothing_is_wrong(said, uncertain, fate):
    drum = thing(7)
    reviewed = item(1, drum, ItemState.REVIEWED, said, uncertain=uncertain)
    assert fates([sample(1, drum)], [reviewed]) == {"7": fate}


@pytest.mark.parametrize("slots", [{"object": "nothing"}, {"defect": "false-alarm", "type": "none"}])
def test_saying_that_nothing_is_there_dismisses(slots):
    board = item(1, thing(1), ItemState.REVIEWED)
    told = {name: SlotAnswer(option, {option: 0.9}) for name, option in slots.items()}
    assert fate_of(PCB, replace(board, verdict=told)) is Fate.DISMISSED


@given(st.lists(st.sampled_from(list(FATES)), min_size=1, max_size=5), st.booleans(), st.randoms())
def test_of_several_items_the_best_fate_tells_in_whatever_order(states, dismissed, random):
    drum = thing(7)
    items = [item(number, drum, state) for number, state in enumerate(states, 1)]
    items += [item(9, drum, ItemState.REVIEWED, "ok")] * dismissed
    random.shuffle(items)
    order = list(Fate)
    best = min((fate_of(YARD, one) for one in items), key=order.index)
    assert fates([sample(1, drum)], items) == {"7": best}
    assert fates([sample(1, drum)], [*items, item(8, drum, ItemState.REVIEWED, "leaking")]) == {"7": Fate.FOUND}


def test_what_is_fine_hidden_or_tiny_is_no_defect():
    samples = [sample(1, thing(1, "ok"), thing(2, visibility=0.49), thing(3, side=11.9), thing(4, label="dontcare"))]
    assert fates(samples, []) == {}


def test_a_defect_counts_from_its_first_clear_sight_and_in_so_many_samples():
    samples = [sample(1, thing(7, visibility=0.2)), sample(2, thing(7)), sample(3, thing(7)), sample(4)]
    (one,) = defects(YARD, "r", samples, [item(1, thing(7), ItemState.REVIEWED, "leaking")], continuous=True)
    assert (one.time_ns, one.moments, one.fate) == (2 * STEP, 2, Fate.FOUND)
    assert (one.label, one.condition, one.recording) == ("drum", "leaking", "r")


def test_unrelated_pictures_have_defects_of_their_own():
    mark = thing(1, None, label="open")
    samples = [sample(1, mark), sample(2, mark)]
    verdict = replace(item(2, mark, ItemState.REVIEWED), verdict={"defect": SlotAnswer("real", {"real": 0.9})})
    assert fates(samples, [verdict], PCB, continuous=False) == {f"1@{STEP}": Fate.UNSEEN, f"1@{2 * STEP}": Fate.FOUND}
    assert fates(samples, [verdict], PCB) == {"1": Fate.FOUND}


def test_the_worst_come_first_and_every_fate_has_its_place():
    assert sorted(WORST_FIRST) == sorted(Fate)
    kinds = ((Fate.FOUND, 9), (Fate.PASSED, 2), (Fate.PASSED, 5), (Fate.UNSEEN, 1))
    made = [DefectResult(str(n), "r", "drum", "dented", n, moments, fate) for n, (fate, moments) in enumerate(kinds)]
    assert [one.name for one in worst_first(made)] == ["3", "2", "1", "0"]


def test_a_defect_is_told_by_the_first_item_of_its_fate(draw):
    recording = draw.recording(20)
    run = draw.run(recording)
    one = draw.judged(run, recording)
    results = replace(run, recordings=(one,))
    decided = deciding(results)
    for defect in one.defects:
        mine = [i for i in one.items if str(i.truth.track) == defect.name and fate_of(run.task, i) is defect.fate]
        assert decided["drawn", defect.name].time_ns == min(i.time_ns for i in mine)
    missed = missed_items(results, decided)
    assert all(fate_of(run.task, i) is not Fate.FOUND for i in missed)
    shown = defect_list(results, decided, {"drawn": one.samples[0].time_ns}, {}, 2)
    assert len(shown.rows) == 2 < shown.total == len(one.defects) == sum(number for _, number, _ in shown.fates)


def test_calibration_counts_the_same_defects(cut, tmp_path):
    recording = cut(tmp_path / "part.mcap", 1, 2)
    out = tmp_path / "out"
    assert main(["run", str(recording), "--out", str(out), "--no-scene"]) == 0
    found = json.loads((out / "results.json").read_text())["defects"]
    settings = from_overrides(EdgeSettings, ["task=yard", "device=d", f"source.path={recording}"])
    camera = camera_of(YARD, Synchronizer.of_task(YARD, settings.synchronizer).reference)
    perception = load_perception(YARD, camera, model_folder(YARD, ""), settings.engine)
    watched = watch(recording, settings, YARD, perception, Visible())
    told = [(one["label"], one["condition"], one["moments"]) for one in found]
    assert told == [(one.label, one.condition, one.moments) for one in watched.defects]
    assert told
    seen = {unit for moment in watched.moments for unit in moment.units if unit is not None}
    unseen = {number for number, one in enumerate(found) if one["fate"] == "unseen"}
    assert unseen == set(range(len(found))) - seen
