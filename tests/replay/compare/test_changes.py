"""What counts as a change: field by field, within tolerance or beyond, and how many are allowed."""

import json
from dataclasses import replace

import pytest

from fusion.types import Box2D, Box3D, ItemState, SlotAnswer
from replay.cli import main
from replay.compare.comparison import compare
from replay.compare.tolerances import BUNDLED, Tolerances
from replay.results.file import write_results
from replay.results.records import DefectResult, Fate, RunResults


def run_with(run, items, defects=()):
    return RunResults(run.task, (replace(run.recordings[0], items=tuple(items), defects=tuple(defects)),), {})


@pytest.fixture
def one_changed(drawn_run, side):
    """Compares the drawn run with one in which one reviewed item is changed."""
    items = [replace(item, margin=0.3, box3d=Box3D(5, 1, 0.5, 1, 1, 1, 0)) for item in drawn_run.items]
    place = next(n for n, item in enumerate(items) if item.verdict)

    def compared(tolerances=None, **changes):
        after = items.copy()
        after[place] = replace(items[place], **changes)
        runs = side(run_with(drawn_run, items)), side(run_with(drawn_run, after))
        return compare(*runs, tolerances or Tolerances.load(None))

    compared.item = items[place]
    return compared


def test_the_bundled_file_says_what_holds_without_one():
    assert Tolerances.load(None) == Tolerances()
    written = BUNDLED.read_text().split("[fields]")[1].split("[defects]")[0].splitlines()
    named = {line.split("=")[0].strip() for line in written if "=" in line}
    assert set(Tolerances().fields.model_dump()) == named


def test_keys_that_a_table_leaves_out_are_as_bundled(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        "[fields]\nscore = { per_thousand = 5 }\nbox = {}\nevidence_bytes = { absolute = 9 }\n"
        "track = { per_thousand = 1 }\n"
    )
    fields, bundled = Tolerances.load(path).fields, Tolerances().fields
    assert fields.score == bundled.score.model_copy(update={"per_thousand": 5.0})
    assert fields.evidence_bytes == bundled.evidence_bytes.model_copy(update={"absolute": 9.0})
    assert fields.box == bundled.box
    assert not fields.track.ignore


def test_infinite_tolerances_are_whatever_it_is(drawn_run, tmp_path, capsys):
    for name, step in (("before", 0), ("after", 10**12)):
        items = [replace(item, time_ns=item.time_ns + step, truth=None) for item in drawn_run.items]
        write_results(run_with(drawn_run, items), tmp_path / f"{name}.json")
    path, told = tmp_path / "mine.toml", tmp_path / "told.json"
    path.write_text("[matching]\nwithin_ms = inf\n[fields]\nscore = { absolute = inf }\n")
    given = ["--tolerances", str(path), "--json", str(told)]
    assert main(["compare", str(tmp_path / "before.json"), str(tmp_path / "after.json"), *given]) in (0, 1)
    assert "72 items in both runs" in capsys.readouterr().out

    def never(word):
        raise AssertionError(word)

    found = json.loads(told.read_text(), parse_constant=never)
    assert found["tolerances"]["matching"]["within_ms"] is found["tolerances"]["fields"]["score"]["absolute"] is None


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("label", {"label": "person"}),
        ("score", {"score": 0.0}),
        ("margin", {"margin": 0.31}),
        ("box3d", {"box3d": Box3D(5, 1.05, 0.5, 1, 1, 1, 0)}),
        ("uncertain", {"uncertain": None}),
        ("reasons", {"reasons": ("novel",)}),
        ("lanes", {"lanes": ("maps", "pixels")}),
        ("evidence_bytes", {"evidence_bytes": 9000}),
        ("maps_bytes", {"maps_bytes": 9000}),
        ("device", {"device_answers": {"object": "nothing"}}),
        ("detector", {"detector_answers": {"object": "nothing"}}),
        ("truth", {"truth_answers": {"object": "nothing"}}),
    ],
)
def test_each_field_is_compared_on_its_own(one_changed, field, changes):
    if field == "uncertain":
        changes = {"uncertain": not one_changed.item.uncertain}
    found = one_changed(**changes)
    assert [change.kinds for change in found.changes] == [(field,)]
    assert not found.agrees
    assert any(field in finding for finding in found.findings)
    ignored = Tolerances.model_validate({"fields": {field: {"ignore": True}}, "metrics": {"draws": 200}})
    assert one_changed(ignored, **changes).agrees
    some = Tolerances.model_validate({"fields": {field: {"per_thousand": 100}}, "metrics": {"draws": 200}})
    assert one_changed(some, **changes).agrees


def test_small_steps_are_within_tolerance(one_changed):
    item = one_changed.item
    box = Box2D(item.box.x1 + 0.4, item.box.y1, item.box.x2, item.box.y2)
    near = {"score": item.score + 0.0009, "margin": 0.304, "box": box, "evidence_bytes": item.evidence_bytes + 7}
    assert one_changed(**near).changes == ()
    assert one_changed(**near).agrees


def test_an_answer_that_turns_wrong_comes_first(one_changed):
    item = one_changed.item
    wrong = {name: replace_option(answer) for name, answer in item.verdict.items()}
    found = one_changed(verdict=wrong)
    first = found.changes[0]
    assert first.turned == "worse"
    assert "verdict" in first.kinds
    assert "probabilities" not in first.kinds


def replace_option(answer):
    other = next(option for option in answer.probabilities if option != answer.option)
    return SlotAnswer(other, answer.probabilities)


def test_new_and_gone_items_are_counted(drawn_run, side):
    fewer = run_with(drawn_run, drawn_run.items[3:])
    found = compare(side(drawn_run), side(fewer), Tolerances())
    assert {one.name: one.count for one in found.presence} == {"new": 0, "gone": 3}
    assert found.findings == ("items only in the first run: 3 of 72, 0 allowed",)
    back = compare(side(fewer), side(drawn_run), Tolerances())
    assert {one.name: one.count for one in back.presence} == {"new": 3, "gone": 0}
    some = Tolerances.model_validate({"items": {"gone": 1000 * 3 / 72}})
    assert compare(side(drawn_run), side(fewer), some).agrees
    fewer_allowed = Tolerances.model_validate({"items": {"gone": 1000 * 2.9 / 72}})
    assert not compare(side(drawn_run), side(fewer), fewer_allowed).agrees


def test_a_defect_newly_missed_is_told_by_name(drawn_run, side):
    defects = [DefectResult(name, "drawn", "drum", "dented", 0, 4, Fate.FOUND) for name in ("1", "2")]
    after = [defects[0], replace(defects[1], fate=Fate.PASSED)]
    first, second = (run_with(drawn_run, drawn_run.items, one) for one in (defects, after))
    found = compare(side(first), side(second), Tolerances())
    assert [(one.name, one.newly_missed) for one in found.fates] == [("2", True)]
    assert found.findings == ("true defects newly missed: 1 of 2, 0 allowed",)
    assert compare(side(second), side(first), Tolerances()).findings == ("true defects newly found: 1 of 2, 0 allowed",)


def test_the_lottery_of_another_recording_is_no_difference(drawn_run, side):
    """It draws by the item's id, in which the recording's content is."""
    audited = [replace(item, id=f"cart/{'f' * 16}/{n}#1") for n, item in enumerate(drawn_run.items)]
    place = next(n for n, item in enumerate(audited) if not item.reasons)
    audited[place] = replace(audited[place], reasons=("audit",), state=ItemState.SHED)
    found = compare(side(drawn_run), side(run_with(drawn_run, audited)), Tolerances())
    assert found.agrees
    same_id = [replace(item, id=drawn_run.items[n].id) for n, item in enumerate(audited)]
    found = compare(side(drawn_run), side(run_with(drawn_run, same_id)), Tolerances())
    assert [change.kinds for change in found.changes] == [("state",)]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[fields]\nscroe = { absolute = 1 }\n", 2, "scroe"),
        ("[fields.score]\nabsolute = -1\n", 2, "absolute"),
        ("[fields.score]\nabsolute = nan\n", 2, "absolute"),
        ("[fields]\nscore = 1\n", 2, "score"),
        ("[fields.label]\nabsolute = 1\n", 2, "absolute"),
        ("[matching]\n\nwithin_ms = 'soon'\n", 3, "within_ms"),
        ("[metrics]\noverall = 'bonferroni'\n", 2, "overall"),
        ("[metrics]\nignore = ['verdict_acuracy']\n", 2, "verdict_acuracy"),
        ("[metrics.allowed]\nverdict_acuracy = 0.1\n", 1, "verdict_acuracy"),
    ],
)
def test_a_wrong_tolerance_is_named_with_file_and_line(text, line, words, tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert main(["compare", "a", "b", "--tolerances", str(path)]) == 2
    told = capsys.readouterr().err.strip()
    assert f"{path}:{line}: " in told
    assert words in told
    assert "\n" not in told
