"""Whole runs in another world: real models on a stretch of the bundled recording."""

from __future__ import annotations

import json

import pytest

from replay.cli import main
from replay.outputs import collect
from replay.results import file
from replay.running.folder import RunFolder
from replay.running.plan import Job, Plan, Variant
from replay.running.run import run

WORLDS = {
    "plain": (),
    "perfect": ("world.link.bytes_per_s=1e12",),
    "half": ("world.link.share=0.5", "world.link.after_s=0"),
    "cut": ("world.link.bytes_per_s=30000", "world.link.outages=[[0.3, 0.8]]", "world.cloud.reviews_per_s=20"),
    "turned": ("world.sensors.roof.turned_deg=[0, 0, 8]",),
    "swapped": ("world.sensors.front.swapped=true", "world.sensors.roof.late_ms=150", "world.sensors.mic.drop=0.5"),
    "watts": (
        "world.power.joules_per_sample=1", "edge.power.gears=[{}, {rate_hz=2}]", "edge.power.budget_watts=5",
        "edge.power.react_s=0.2",
    ),
}  # fmt: skip


def results_of(names, recording, out):
    variants = tuple(Variant(name=name, sets=WORLDS[name]) for name in names)
    plan = Plan("yard", (Job("cut", str(recording)),), variants)
    run(plan, out)
    found = {}
    for variant in variants:
        folder = RunFolder.of(out, variant)
        found[variant.name] = collect(plan.task, plan.jobs, variant, folder)
        file.write_results(found[variant.name], folder.path / file.NAME)
    return found


@pytest.fixture(scope="module")
def recording(cut, tmp_path_factory):
    return cut(tmp_path_factory.mktemp("recording") / "cut.mcap", 0, 1.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("worlds")


@pytest.fixture(scope="module")
def worlds(recording, folder):
    return results_of(WORLDS, recording, folder)


def verdicts(results):
    return [(item.id, item.state, {name: slot.option for name, slot in item.verdict.items()}) for item in results.items]


def test_a_perfect_link_changes_no_verdict(worlds):
    assert verdicts(worlds["perfect"]) == verdicts(worlds["plain"])
    assert any(verdict for *_, verdict in verdicts(worlds["plain"]))


def test_every_item_ends_in_every_world(worlds):
    for name, results in worlds.items():
        summary = results.summary
        assert (summary["waiting"], summary["lost"], summary["duplicates"]) == (0, 0, 0), name


def test_half_the_bandwidth_is_half_of_what_was_sent(worlds):
    free, half = worlds["perfect"].summary, worlds["half"].summary
    assert half["link_bytes_per_s"] == pytest.approx(free["link_mean_bytes_per_s"] / 2, rel=0.01)
    assert half["link_bytes"] <= half["link_bytes_per_s"] * 1.1
    assert half["link_busy_share"] > 0.6
    assert half["expired"] == half["waiting_at_end"] > 0 == free["expired"]
    assert half["verdict_latency_ms_p99"] > 10 * free["verdict_latency_ms_p99"]


def test_the_same_world_gives_the_same_bytes(worlds, recording, folder, tmp_path):
    del worlds
    results_of(["half", "cut"], recording, tmp_path)
    for name in ("half", "cut"):
        assert (tmp_path / name / file.NAME).read_bytes() == (folder / name / file.NAME).read_bytes()


def test_outages_and_speed_are_told(worlds):
    cut = worlds["cut"].summary
    assert cut["link_outage_s"] == 0.5
    assert cut["verdict_latency_ms_p99"] > 400
    assert cut["reviews_per_s"] is not None
    assert not any(key.startswith(("link_", "verdict_latency", "power_")) for key in worlds["plain"].summary)


def test_faulty_sensors_change_what_the_models_see(worlds):
    def scores(name):
        return [(item.label, round(item.score, 4)) for item in worlds[name].items]

    def opinions(name):
        return [dict(item.device_answers) for item in worlds[name].items]

    assert scores("swapped") != scores("plain") == scores("turned")
    assert worlds["swapped"].summary["detector_map50"] < worlds["plain"].summary["detector_map50"]
    assert opinions("turned") != opinions("plain")
    ages = [sample.ages_ms.get("roof", 999) for sample in worlds["swapped"].samples]
    plain = [sample.ages_ms.get("roof", 999) for sample in worlds["plain"].samples]
    assert min(ages[2:-1]) >= 100 > max(plain[2:])


def test_a_watt_budget_makes_gaps(worlds):
    summary = worlds["watts"].summary
    assert summary["gaps"] == summary["frames_held"] > 3
    assert summary["samples"] + summary["gaps"] == worlds["plain"].summary["samples"]
    assert summary["samples_in_lower_gears"] > 0
    assert summary["defects"] == worlds["plain"].summary["defects"]


def test_the_command_line_tells_the_link(recording, tmp_path, capsys):
    arguments = ["run", str(recording), "--out", str(tmp_path), "--no-scene"]
    assert main([*arguments, "--set", "world.link.bytes_per_s=20000"]) == 0
    told = capsys.readouterr().out
    assert "verdict latency, ms (p99)" in told
    assert json.loads((tmp_path / "summary.json").read_text())["link_bytes_per_s"] == 20000
    assert main(arguments) == 0
    assert "verdict latency" not in capsys.readouterr().out
    assert "link_bytes" not in json.loads((tmp_path / "summary.json").read_text())
    assert main([*arguments, "--set", "world.sensors.roof.snr_db=1"]) == 2
    assert "world.sensors.roof.snr_db" in capsys.readouterr().err
