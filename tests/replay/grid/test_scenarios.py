"""Scenario files: what they hold becomes variants, and what is wrong with them is told with its line."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.config import Settings, from_overrides
from fusion.errors import ConfigError
from fusion.task import Task
from replay.cli import main
from replay.running.plan import Job, Prepared, Variant
from replay.whatif.figures import loses_readings
from replay.whatif.product import named_product, read_axis, toml
from replay.whatif.scenarios import Scenarios, picked

YARD = Task.load("yard")
FILE = """\
[scenario.thin]
about = "a thin link"
set = [
  "edge.screening.budget_bytes_per_s=2000",
  "edge.screening.finest_rate=coarse",
]

[scenario.boards]
set = ["edge.tracker.enabled=false"]
tasks = ["pcb"]

[grid]
"edge.screening.budget_bytes_per_s" = [0, 4000]
edge.screening.finest_rate = ["full", "least"]
"""


def load(folder: Path, text: str) -> Scenarios:
    (folder / "mine.toml").write_text(text)
    return Scenarios.load(folder / "mine.toml")


def test_scenarios_and_points_become_variants(tmp_path):
    common = Variant(models="m", sets=("edge.screening.seed=3",))
    choices = load(tmp_path, FILE).choices(YARD, common)
    assert [one.variant.name for one in choices] == [
        "thin",
        "budget_bytes_per_s=0,finest_rate=full",
        "budget_bytes_per_s=0,finest_rate=least",
        "budget_bytes_per_s=4000,finest_rate=full",
        "budget_bytes_per_s=4000,finest_rate=least",
    ]
    assert choices[0].about == "a thin link"
    assert {one.variant.models for one in choices} == {"m"}
    assert choices[4].variant.sets == (
        "edge.screening.seed=3",
        "edge.screening.budget_bytes_per_s=4000",
        "edge.screening.finest_rate=least",
    )
    prepared = Prepared.of(YARD, Job("a", "a.mcap"), choices[4].variant).edge.screening
    assert (prepared.budget_bytes_per_s, prepared.finest_rate, prepared.seed) == (4000, "least", 3)


def test_a_scenario_of_another_task_is_left_out(tmp_path):
    names = [one.variant.name for one in load(tmp_path, FILE).choices(Task.load("pcb"), Variant())]
    assert names[:2] == ["thin", "boards"]


@pytest.mark.parametrize("task", ["yard", "pcb", "kitti", "nuscenes"])
def test_the_bundled_scenarios_are_sound_for_every_task(task):
    choices = Scenarios.bundled().choices(Task.load(task), Variant())
    assert len(choices) >= 8
    assert all(one.about and one.variant.sets for one in choices)


@pytest.mark.parametrize(
    ("before", "after", "line", "words"),
    [
        ("finest_rate=coarse", "finest_rat=coarse", 5, "scenario thin: edge.screening.finest_rat=coarse: unknown key"),
        ("finest_rate=coarse", "finest_rate=fine", 5, "edge.screening.finest_rate=fine"),
        ("edge.screening.finest_rate=coarse", "fusion.rate=1", 5, "keys begin with"),
        ("set = [\n", "sets = [\n", 3, "unknown key 'scenario.thin.sets'"),
        ('about = "a thin link"', "about = 3", 2, "scenario.thin.about"),
        ("[scenario.thin]", "[scenario.base]", 1, "is taken"),
        ("[scenario.thin]", '[scenario."a/b"]', 1, "is no name"),
        ("[0, 4000]", "[0, -1]", 13, "edge.screening.budget_bytes_per_s=-1"),
        ("[0, 4000]", "4000", 13, "give a list of values"),
        ("[0, 4000]", "[]", 13, "give a list of values"),
        ("[0, 4000]", str(list(range(33))), 12, "33 x 2 = 66 points, more than 64"),
        ("edge.screening.finest_rate = [", "edge.screening.finest = [", 14, "unknown key"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(before, after, line, words, tmp_path):
    assert FILE.count(before) == 1
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, FILE.replace(before, after)).choices(YARD, Variant())
    told = str(raised.value)
    assert told.startswith(f"{tmp_path / 'mine.toml'}:{line}: ")
    assert words in told
    assert "\n" not in told


def test_names_are_picked_by_pattern_and_unknown_ones_told(tmp_path):
    choices = load(tmp_path, FILE).choices(YARD, Variant())
    assert [one.variant.name for one in picked(choices, ["*=least", "thin"], "mine.toml")] == [
        choices[0].variant.name,
        choices[2].variant.name,
        choices[4].variant.name,
    ]
    with pytest.raises(ConfigError, match=r"--only tin: mine\.toml has no such variant; it has: thin, budget"):
        picked(choices, ["tin"], "mine.toml")


KEYS = st.lists(st.from_regex(r"[a-c](\.[a-c]){0,2}", fullmatch=True), unique=True, min_size=1, max_size=3)
VALUES = st.lists(st.one_of(st.integers(-9, 9), st.booleans(), st.text(max_size=4)), min_size=1, max_size=4)


@settings(max_examples=30)
@given(KEYS.flatmap(lambda keys: st.fixed_dictionaries(dict.fromkeys(keys, VALUES))))
def test_a_product_has_every_point_once_under_a_name_of_its_own(grid):
    points = named_product(grid)
    assert len(points) == math.prod(map(len, grid.values()))
    names = [point.name for point in points]
    assert len(set(names)) == len(names)
    assert all("/" not in name and name not in ("", ".", "..") for name in names)


class One(Settings):
    one: Any = None


WORDS = st.text("ab ,=\"'[]#1.\N{GREEK SMALL LETTER ALPHA}\N{GRINNING FACE}", max_size=6)
SCALARS = st.one_of(st.integers(-99, 99), st.booleans(), st.floats(allow_nan=False), WORDS)


@given(st.recursive(SCALARS, st.lists, max_leaves=4))
def test_values_reach_the_settings_as_they_were_written(value):
    assert from_overrides(One, [f"one={toml(value)}"]).one == value


def test_an_axis_from_the_command_line():
    assert read_axis("edge.screening.finest_rate=full, least") == ("edge.screening.finest_rate", ["full", "least"])
    assert read_axis("edge.tracker.enabled=true,false")[1] == [True, False]
    for wrong in ("edge.seed", "=1", "a=1,,2"):
        with pytest.raises(ConfigError, match="KEY=VALUE,VALUE"):
            read_axis(wrong)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--scenarios", "none.toml"], 2, "none.toml"),
        (["--only", "nobody"], 2, "--only nobody: scenarios.toml has no such variant; it has: thin-link"),
        (["--vary", "edge.screening.budget=1,2"], 2, "--vary edge.screening.budget=1: unknown key"),
        (["--vary", "edge.screening.seed=1,2,3", "--most", "2"], 2, "3 points, more than 2"),
        (["--vary", "edge.screening.seed=1,2", "--vary", "edge.screening.seed=3"], 2, "seed: given twice"),
        (["--set", "edge.screening.alpah=1"], 2, "--set edge.screening.alpah=1: unknown key"),
        (["--models", "/nonexistent"], 4, "/nonexistent"),
        (["nowhere.mcap"], 3, "nowhere.mcap"),
    ],
)
def test_a_user_error_is_one_line_before_any_work(arguments, code, words, tmp_path, capsys):
    assert main(["grid", *arguments, "--out", str(tmp_path / "out")]) == code
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert words in told
    assert not (tmp_path / "out").exists()


def test_scenarios_are_listed(capsys, tmp_path):
    assert main(["scenarios"]) == 0
    assert "thin-link: " in capsys.readouterr().out
    (tmp_path / "mine.toml").write_text(FILE)
    assert main(["scenarios", "--scenarios", str(tmp_path / "mine.toml")]) == 0
    told = capsys.readouterr().out
    assert "boards (only pcb)" in told
    assert "grid: edge.screening.finest_rate = full, least" in told


def test_a_grid_does_not_go_to_an_object_store(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["grid", "--out", "s3://bucket/grid"]) == 2
    assert "--out s3://bucket/grid: a grid needs a folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_sensor_set_as_a_whole_may_lose_readings_too():
    for sets in (("world.sensors.front.drop=0.3",), ("world.sensors={front={drop=0.3}}",)):
        assert loses_readings(Variant(sets=sets))
    assert not loses_readings(Variant(sets=("world.link.bytes_per_s=9",)))
