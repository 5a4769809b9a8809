"""Variants that share a pass give, byte for byte, the results of runs of their own."""

import json
import shutil
from dataclasses import replace
from functools import cache
from importlib import resources
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusion
from cloud_node.lanes.reviewer import BatchReviewer, Failed, Poisoned, Scored
from edge_node.perception import Look
from fusion.errors import InputError, ModelError, UnavailableError
from fusion.review import RowsError, load_reviewer
from fusion.review.fixed import FixedReviewer
from fusion.types import PixelCrop
from replay.outputs import collect
from replay.results.file import write_results
from replay.results.gather import SpoolRows, open_database
from replay.running.folder import RunFolder
from replay.running.models import LoadedModels
from replay.running.plan import Job, Plan, Variant
from replay.running.player import passes, play
from replay.running.sharing import LaneClock, SharedModels
from replay.running.verdicts import RememberingReviewer, Verdicts

SETS = {
    "base": (),
    "surer": ("edge.screening.uncertain_below=0.2", "edge.screening.onset_s=0"),
    "coarse": ("edge.screening.finest_rate=coarse", "cloud.review.confidence_floor=0"),
    "thin": ("edge.screening.budget_bytes_per_s=4000", "edge.screening.budget_burst_bytes=3000"),
    "still": ("edge.tracker.enabled=false",),
    "deaf": ("edge.synchronizer.audio_window_s=0.1",),
}
TOGETHER = 5
"""Of these, as many from the first on can share a pass."""


def results(plan, out, variant):
    write_results(collect(plan.task, plan.jobs, variant, RunFolder.of(out, variant)), out / "results.json")
    return (out / "results.json").read_bytes()


@pytest.fixture(scope="module")
def made(cut, tmp_path_factory):
    """The plan, the folder of its run, and of each variant the results from that and from a run of its own."""
    folder = tmp_path_factory.mktemp("one-pass")
    recording = cut(folder / "patrol.mcap", 1, 1.6)
    other = folder / "models"
    shutil.copytree(str(resources.files(fusion).joinpath("weights", "yard")), other)
    variants = [Variant(name=name, sets=sets) for name, sets in SETS.items()]
    variants.append(Variant(name="elsewhere", models=str(other)))
    plan = Plan("yard", (Job("patrol", str(recording)),), tuple(variants))
    models = LoadedModels()
    play(plan, plan.jobs[0], folder / "common", models, quiet=True)
    asked, found = models.verdicts.asked, {}
    for variant in variants:
        models.verdicts.forget()
        play(Plan("yard", plan.jobs, (variant,)), plan.jobs[0], folder / "alone", models, quiet=True)
        found[variant.name] = [results(plan, folder / where, variant) for where in ("common", "alone")]
    return plan, folder / "common", found, (asked, models.verdicts.asked - asked)


@pytest.mark.parametrize("name", [*SETS, "elsewhere"])
def test_a_shared_pass_changes_no_result(made, name):
    common, alone = made[2][name]
    assert common == alone
    assert json.loads(common)["items"]


def test_the_variants_differ_from_one_another(made):
    digests = {name: json.dumps(json.loads(common)["items"]) for name, (common, _) in made[2].items()}
    assert digests.pop("elsewhere") == digests["base"]
    assert digests.pop("deaf")  # in these seconds nobody speaks
    same = [(one, other) for one, other in combinations(digests, 2) if digests[one] == digests[other]]
    assert not same


def test_variants_share_a_pass_when_the_models_see_the_same(made):
    floor = Variant(name="floor", sets=("edge.engine.score_floor=0.3",))
    plan = replace(made[0], variants=(*made[0].variants, floor))
    together = [[one.variant.name for one in some] for some in passes(plan.prepared(plan.jobs[0]))]
    assert together == [list(SETS)[:TOGETHER], ["deaf"], ["elsewhere"], ["floor"]]


def test_evidence_is_reviewed_once_for_all(made):
    common, alone = made[3]
    assert 0 < common < alone


def test_a_lane_that_is_told_is_charged_what_the_models_took(made):
    """Edge time holds the engines' part, also where another lane had them run."""
    plan, out, *_ = made
    for variant in plan.variants:
        with open_database(RunFolder.of(out, variant).spool("patrol")) as db:
            rows = list(SpoolRows.of(db).samples())
        assert len(rows) >= 5
        assert all(0 < row["engine_ns"] <= row["edge_ns"] for row in rows)


class Models:
    """Counts what it is asked; every third sample cannot be seen."""

    def __init__(self):
        self.looks = []

    def look(self, number):
        self.looks.append(number)
        if number % 3 == 2:
            raise InputError(f"no picture at {number}")
        return Look((), engine_ns=number)


@given(lags=st.lists(st.integers(0, 5), min_size=2, max_size=5), count=st.integers(1, 12))
def test_lanes_that_lag_are_told_the_same_and_models_see_each_sample_once_and_in_order(lags, count):
    models, shared = Models(), SharedModels(None, len(lags))
    told = [[] for _ in lags]

    def ask(lane, number):
        try:
            told[lane].append(shared.ask(("fuse", number, number), lambda: models.look(number), LaneClock()).engine_ns)
        except InputError as error:
            told[lane].append(str(error))

    for turn in range(count + max(lags)):
        for lane, lag in enumerate(lags):
            if 0 <= turn - lag < count:
                ask(lane, turn - lag)
    assert models.looks == list(range(count))
    assert told == [[f"no picture at {n}" if n % 3 == 2 else n for n in range(count)]] * len(lags)
    assert not shared.waiting


def reviewer(most=100):
    return RememberingReviewer(load_reviewer("fixed:yard"), Verdicts(most))


@cache
def mini():
    return load_reviewer("mini:yard")


def evidence(count):
    return [mini().example(seed) for seed in range(count)]


@pytest.mark.parametrize("most", [100, 2, 0])
def test_remembered_answers_are_those_of_the_reviewer(most):
    rows, one = evidence(5), reviewer(most)
    plain = load_reviewer("fixed:yard")
    for _ in range(2):
        assert one.score([one.prepare(row) for row in rows]) == plain.score([plain.prepare(row) for row in rows])


def test_a_changed_byte_or_pixels_are_another_question():
    verdicts = Verdicts()
    one = RememberingReviewer(load_reviewer("fixed:yard"), verdicts)
    (row,) = evidence(1)
    crop = PixelCrop(b"some", "jpeg", row.box)
    for asked, told in ((1, row), (1, row), (2, replace(row, value=row.value + 1)), (3, replace(row, pixels=crop))):
        one.score([one.prepare(told)])
        assert verdicts.asked == asked


def test_a_row_of_which_nothing_is_read_stays_so_whether_it_is_remembered_or_not():
    plain = load_reviewer("fixed:yard")

    class PixelsOnly(FixedReviewer):
        pixels_only = True

        def prepare(self, evidence):
            return replace(super().prepare(evidence), blind=evidence.pixels is None)

    one, (row,) = RememberingReviewer(PixelsOnly(plain.task), Verdicts()), evidence(1)
    rows = [replace(row, pixels=None), replace(row, pixels=PixelCrop(b"some", "jpeg", row.box))]
    for _ in range(2):
        prepared = [one.prepare(row) for row in rows]
        assert [row.blind for row in prepared] == [True, False]
        one.score(prepared)


@pytest.mark.parametrize("how", ["raises", "names its rows"])
def test_a_model_that_dies_is_told_from_a_row_that_it_cannot_answer(how):
    """Earlier answers, remembered, are no proof that it still works."""
    dead, poison = [], []

    class Mortal(FixedReviewer):
        def score(self, batch):
            bad = [row for row in batch if dead or row.item in poison]
            if bad and how == "raises":
                raise RuntimeError("CUDA error")
            told = super().score(batch)
            if bad:
                raise RowsError([ModelError("no") if row in bad else one for row, one in zip(batch, told, strict=True)])
            return told

    one, rows = RememberingReviewer(Mortal(load_reviewer("fixed:yard").task), Verdicts()), evidence(4)
    batches = BatchReviewer(one)
    assert isinstance(batches.review(rows[:1])[0], Scored)
    poison.append(rows[1].item)
    assert [type(found) for found in batches.review(rows[:2])] == [Scored, Poisoned]
    dead.append(True)
    assert [type(found) for found in batches.review([rows[0], rows[2]])][1] is Failed
    assert isinstance(batches.review(rows[3:])[0], Failed)


class Moody:
    """A reviewer that waits elsewhere and has no answer for some rows."""

    elsewhere = True

    def __init__(self):
        self.inner, self.batches, self.away = load_reviewer("fixed:yard"), [], set()
        self.name, self.task, self.profiles = "moody", self.inner.task, self.inner.profiles
        self.cost, self.prepare = self.inner.cost, self.inner.prepare

    def score(self, batch):
        self.batches.append(len(batch))
        told = self.inner.score(batch)
        rows = [
            UnavailableError("away") if row.item in self.away else answers
            for row, answers in zip(batch, told, strict=True)
        ]
        if self.away:
            raise RowsError(rows)
        return rows


def test_rows_without_an_answer_are_named_and_asked_for_again():
    moody, rows = Moody(), evidence(4)
    one = RememberingReviewer(moody, Verdicts())
    one.score([one.prepare(rows[0])])
    moody.away = {rows[2].item}
    with pytest.raises(RowsError) as raised:
        one.score([one.prepare(row) for row in rows])
    assert [isinstance(row, UnavailableError) for row in raised.value.rows] == [False, False, True, False]
    moody.away = set()
    assert len(one.score([one.prepare(row) for row in rows])) == 4
    assert moody.batches == [1, 3, 1]
