"""A watt budget on recorded time: the governor shifts as it would have, and holds frames back."""

from __future__ import annotations

import pytest

from edge_node.config import EdgeSettings
from edge_node.fakes import camera_frames
from edge_node.spool import Resume, SampleRecord
from fusion.config import from_overrides
from replay.whatif.figures import world_figures
from replay.whatif.power import TimedPower
from replay.whatif.world import DrawSettings

GEARS = "power.gears=[{}, {rate_hz=5}, {rate_hz=1}]"


def drive(seconds, draw, *sets):
    """(power, for each frame of 10 Hz why it was held back)."""
    edge = from_overrides(EdgeSettings, ["source.path=x", GEARS, *sets])
    power, held = TimedPower(edge.power, draw, "front"), []
    for number, frame in enumerate(camera_frames(seconds * 10), 1):
        held.append(power.hold(frame))
        if not held[-1]:
            power.observe(SampleRecord(number, frame.capture_time_ns, {}, Resume(1, 0)))
    return power, held


def test_without_a_budget_it_only_measures():
    power, held = drive(20, DrawSettings(idle_w=3, joules_per_sample=0.5))
    facts = power.facts()
    assert not any(held)
    assert facts["power_w_mean"] == pytest.approx(8, rel=0.02)
    assert facts["samples_by_gear"] == [200]


def test_watts_of_several_recordings_are_over_the_time_of_all():
    told = []
    for seconds, idle_w in ((2, 30), (38, 10)):
        power, _ = drive(seconds, DrawSettings(idle_w=idle_w))
        told.append({"power": power.facts()})
    assert world_figures(told, ())["power_w_mean"] == pytest.approx(11, rel=0.02)
    for one in told:
        del one["power"]["seconds"]
    assert world_figures(told, ())["power_w_mean"] == pytest.approx(20, rel=0.02)


def test_over_the_budget_it_shifts_down_until_it_fits():
    draw = DrawSettings(idle_w=3, joules_per_sample=0.5)
    power, held = drive(120, draw, "power.budget_watts=7", "power.recover_s=1000")
    facts = power.facts()
    assert not any(held[:20])
    assert power.gear == 1
    assert sum(map(bool, held[-100:])) == pytest.approx(50, abs=1)
    assert set(held[-100:]) == {"", "over the power budget"}
    assert facts["power_w_mean"] < 7
    assert facts["frames_held"] == sum(map(bool, held))


def test_what_a_sample_costs_may_hang_on_the_gear():
    draw = DrawSettings(idle_w=1, joules_per_sample=(1.0, 2.0, 0.1))
    power, _ = drive(120, draw, "power.budget_watts=6", "power.recover_s=1000")
    assert power.gear == 2  # the second gear is no help


def test_calm_lets_it_shift_up_again():
    draw = DrawSettings(joules_per_sample=1.0)
    waits, _ = drive(60, draw, "power.budget_watts=6", "power.recover_s=1000")
    returns, _ = drive(60, draw, "power.budget_watts=6", "power.recover_s=5")
    kept, came_back = waits.facts()["samples_by_gear"][0], returns.facts()["samples_by_gear"][0]
    assert came_back > kept + 20


def test_other_sensors_are_never_held_and_a_long_pause_costs_no_work():
    edge = from_overrides(EdgeSettings, ["source.path=x", GEARS, "power.budget_watts=1"])
    power = TimedPower(edge.power, DrawSettings(idle_w=5), "front")
    first, last = camera_frames(2, rate_hz=1e-9)  # thirty years
    assert power.hold(first) == ""
    (roof,) = camera_frames(1, sensor="roof")
    assert power.hold(roof) == ""
    power.hold(last)
    assert power.gear == 2
