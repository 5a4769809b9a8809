"""`world.KEY=VALUE`: what cannot be meant is one line that says what to do."""

from __future__ import annotations

import pytest

from fusion.errors import ConfigError
from fusion.task import Task
from replay.running.plan import Job, Prepared, Variant
from replay.running.player import passes
from replay.whatif.need import BURST_S, with_rates


def prepared(*sets, name=""):
    return Prepared.of(Task.load("yard"), Job("a", "x"), Variant(name=name, sets=sets))


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["world.sensors.side.drop=0.1"], "it has front, roof, mic"),
        (["world.sensors.roof.snr_db=3"], "sensors.roof.snr_db"),
        (["world.sensors.mic.turned_deg=[0,0,1]"], "sensors.mic.turned_deg"),
        (["world.sensors.front.removed=true"], "synchronizer.reference"),
        (["world.sensors.front.clock_ms=20"], "give the others -20 ms"),
        (["world.sensors.front.drop=1.5"], "sensors.front.drop"),
        (["world.link.bytes_per_s=0"], "link.bytes_per_s"),
        (["world.link.bytes_per_s=9", "world.link.share=0.5"], "either bytes_per_s or share"),
        (["world.link.budget=true"], "budget needs"),
        (["world.link.outages=[[5,2]]"], "ends before it begins"),
        (["world.link.every_s=5"], "belong together"),
        (["world.link.every_s=5", "world.link.for_s=5"], "shorter"),
        (["world.cloud.reviews_per_s=5", "world.cloud.item_ms=5"], "either reviews_per_s"),
        (["world.power.joules_per_sample=[1,2]"], "2 figures for 1 gears"),
        (["edge.power.gears=[{},{rate_hz=2}]", "edge.power.budget_watts=5"], "world.power"),
        (["edge.power.gears=[{},{rate_hz=2}]", "edge.power.limit_c=80"], "temperature"),
        (["edge.power.gears=[{},{models='other'}]", "world.power.idle_w=5"], "rate_hz alone"),
        (["world.weather=rain"], "weather"),
        (["world.link.latency_ms=inf"], "finite"),
        (["world.link.outages=[[2,inf]]"], "finite"),
        (["world.sensors.roof.late_ms=nan"], "finite"),
        (["world.link.every_s=1", "world.link.for_s=0.9999"], "between outages"),
    ],
)
def test_what_cannot_be_meant_is_told(sets, words):
    with pytest.raises(ConfigError) as told:
        prepared(*sets)
    assert words in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("text", ["2024-06-01", "2011_09_26", "1234", "true", "inf", 'a"b', "a\\b", "[a]"])
def test_names_are_taken_as_they_are_whatever_else_they_could_mean(text):
    variant = Variant(models=text, reviewer=f"mini:{text}")
    found = Prepared.of(Task.load("yard"), Job("a", text, split=text), variant)
    assert str(found.edge.source.path) == text
    assert (found.edge.source.split, found.edge.models) == (text, text)
    assert found.cloud.reviewers == (f"mini:{text}",)


def test_variants_share_a_pass_unless_they_see_something_else():
    plain, link, cloud = prepared(), prepared("world.link.bytes_per_s=9"), prepared("world.cloud.reviews_per_s=9")
    noisy, late = prepared("world.sensors.front.noise=3"), prepared("world.sensors.roof.late_ms=30")
    power = prepared("world.power.idle_w=3")
    assert passes([plain, noisy, link, late, cloud, power]) == [[plain, link, cloud], [noisy], [late], [power]]


def test_a_share_becomes_a_rate_by_one_run_for_all_that_want_it():
    played = []

    def play(variants, folder):
        played.append(variants)
        for number, one in enumerate(variants, 1):
            assert one.world.link.share is None
            path = folder / one.variant.name / "recordings" / "a"
            path.mkdir(parents=True)
            (path / "facts.json").write_text(f'{{"link": {{"bytes": {number * 80_000}, "recorded_s": 8.0}}}}')

    sets = [["world.link.share=0.5"], [], ["world.link.share=0.1", "world.link.latency_ms=50"],
            ["world.link.share=1", "edge.screening.uncertain_below=0.1"]]  # fmt: skip
    given = [prepared(*one, name=f"v{n}") for n, one in enumerate(sets)]
    rated = with_rates(Job("a", "x"), given, play)
    assert [len(variants) for variants in played] == [2]
    assert [one.world.link.bytes_per_s for one in rated] == [5000, None, 1000, 20_000]
    assert rated[1] is given[1]
    assert rated[2].world.link.latency_ms == 50


def test_a_device_that_knows_the_rate_has_it_as_its_budget():
    def told(*sets):
        (one,) = with_rates(Job("a", "x"), [prepared("world.link.bytes_per_s=900", *sets)], lambda *_: None)
        return one.edge.screening.budget_bytes_per_s, one.edge.screening.budget_burst_bytes

    assert told("world.link.budget=true") == (900, 900 * BURST_S)
    assert told("world.link.budget=true", "edge.screening.budget_burst_bytes=77") == (900, 77)
    assert told()[0] == 0
