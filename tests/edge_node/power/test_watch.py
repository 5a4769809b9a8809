"""The power part as the daemon holds it: what it tells while all is well, and when a sensor goes away."""

from __future__ import annotations

import logging
import threading

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from edge_node.fakes import FakePerception
from edge_node.power import Gearbox, GearedPerception, Power, fakes, find_meter, find_thermals
from edge_node.power.collector import PowerCollector
from edge_node.settings.power import GearSettings, PowerSettings
from edge_node.spool import Resume, SampleRecord
from fusion.clock import ManualClock
from fusion.errors import ConfigError

S = 10**9
GEARS = (GearSettings(), GearSettings(rate_hz=1.0))
GOVERNED = PowerSettings(budget_watts=10.0, react_s=1.0, recover_s=3.0, gears=GEARS)


def opened(settings: PowerSettings, root, clock=None) -> Power:
    def load(models: str) -> FakePerception:
        raise AssertionError(models)

    return Power.open(settings, GearedPerception(FakePerception()), load, root=root, clock=clock)


def exported(power: Power) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(PowerCollector(power))
    lines = generate_latest(registry).decode().splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def test_a_board_is_measured_and_told(tmp_path):
    fakes.orin_nano(tmp_path)
    clock = ManualClock(100 * S)
    power = opened(PowerSettings(), tmp_path, clock)
    assert power.source() == "power from ina3221 VDD_IN (the board's input)"
    assert power.told() == "not measured: not read yet"
    assert exported(power) == {}
    for _ in range(11):
        power.step()
        power.observe(SampleRecord(1, 0, {}, Resume(1, 0)))
        clock.advance(S)
    assert power.told() == "5.03 W by the board's input"
    assert exported(power) == {
        "fusion_edge_power_watts": 5.03,
        "fusion_edge_energy_joules_total": pytest.approx(50.3),
        'fusion_edge_temperature_celsius{zone="cpu-thermal"}': 46.5,
        'fusion_edge_temperature_celsius{zone="gpu-thermal"}': 45.0,
        'fusion_edge_temperature_celsius{zone="tj-thermal"}': 47.25,
    }
    assert power.summary() == {
        "power_source": "ina3221 VDD_IN",
        "power_w_mean": 5.03,
        "joules_per_sample": 5.03,
        "joules_per_review": None,
        "unmeasured_s": 1.0,
    }


def test_a_sensor_that_goes_away_is_told_once_and_so_is_its_return(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    board = fakes.orin_nano(tmp_path)
    clock = ManualClock()
    power = opened(PowerSettings(), tmp_path, clock)
    for step in range(9):
        if step == 3:
            (tmp_path / fakes.ORIN / "curr1_input").unlink()
        if step == 6:
            board.draw(8.0)
        power.step()
        if step == 4:
            assert power.told().startswith("not measured: ")
            assert power.told().endswith("hwmon3/curr1_input: no such file or directory")
            numbers = exported(power)
            assert "fusion_edge_power_watts" not in numbers
            assert numbers["fusion_edge_energy_joules_total"] == pytest.approx(10.06)
        clock.advance(S)
    assert [r.message.partition(":")[0] for r in caplog.records] == [
        "power is not measured any more",
        "power is measured again, from ina3221 VDD_IN",
    ]
    assert power.summary()["unmeasured_s"] == 5.0
    assert power.summary()["power_w_mean"] == pytest.approx((2 * 5.03 + 2 * 8.0) / 4)


def test_where_there_is_nothing_all_figures_are_null_and_the_reason_is_told(tmp_path):
    power = opened(PowerSettings(), tmp_path)
    power.start(lambda: 0)
    power.stop()
    assert power.source() == "power not measured: no power sensor was found"
    assert power.told() == "not measured: no power sensor was found"
    figures = power.summary()
    assert figures.pop("unmeasured_s") >= 0
    assert set(figures.values()) == {None}
    assert exported(power) == {}
    assert Power.off().source() == "power not measured: switched off"


def test_the_governor_shifts_and_its_gear_is_told(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    board = fakes.orin_nano(tmp_path)
    clock = ManualClock()
    power = opened(GOVERNED, tmp_path, clock)
    told = []
    for watts, seconds in ((5.0, 2), (20.0, 4), (5.0, 8)):
        board.draw(watts)
        for _ in range(seconds):
            power.step()
            told.append(int(exported(power)["fusion_edge_power_gear"]))
            clock.advance(S)
    assert told == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]
    down, up = (record.message for record in caplog.records)
    assert down.startswith("power: gear 2 of 2 (")
    assert down.endswith("°C), over the power budget")
    assert up.startswith("power: gear 1 of 2 (")
    assert up.endswith("°C)")


def test_a_limit_on_what_is_not_measured_is_refused_at_the_start(tmp_path):
    told = r"power\.budget_watts = 10: power is not measured here: no power sensor was found"
    with pytest.raises(ConfigError, match=told):
        opened(GOVERNED, tmp_path)
    hot = PowerSettings(limit_c=80.0, gears=GEARS)
    with pytest.raises(ConfigError, match=r"power\.limit_c = 80: no thermal zone can be read"):
        opened(hot, tmp_path)
    fakes.raspberry(tmp_path)
    assert opened(hot, tmp_path).source() == "power not measured: no power sensor was found"


def test_heat_alone_can_govern_a_board_that_tells_no_power(tmp_path):
    board = fakes.raspberry(tmp_path)
    clock = ManualClock()
    power = opened(PowerSettings(limit_c=80.0, react_s=1.0, gears=GEARS), tmp_path, clock)
    board.zone(0, "cpu-thermal", 84_500)
    for _ in range(4):
        power.step()
        clock.advance(S)
    assert power.status.gear == 1
    assert [power.hold(t) for t in (0, 1)] == ["", "over the temperature limit"]


def test_the_thread_reads_until_it_is_stopped_and_the_meter_is_let_go():
    read = threading.Event()
    meter = fakes.FakeMeter()
    settings = PowerSettings(period_s=0.01)
    power = Power(settings, meter, gearbox=Gearbox(()))
    power.start(lambda: read.set() or 3)
    assert read.wait(10)
    power.stop()
    power.stop()
    assert meter.closed
    assert power.summary()["power_source"] == "fake"
    unstarted = Power(settings, fakes.FakeMeter())
    unstarted.stop()
    assert unstarted.summary()["power_w_mean"] is None


def test_an_old_reading_is_not_shown_as_if_it_were_one_of_now(tmp_path):
    fakes.orin_nano(tmp_path)
    clock = ManualClock()
    power = opened(PowerSettings(), tmp_path, clock)
    for _ in range(2):
        power.step()
        clock.advance(S)
    clock.advance(7 * S)
    assert power.told() == "not measured: no reading for 8 s"
    assert set(exported(power)) == {"fusion_edge_energy_joules_total"}


def test_a_defect_in_a_meter_does_not_end_the_daemon(caplog):
    class Odd(fakes.FakeMeter):
        def read(self, now_ns):
            raise ZeroDivisionError("no volts")

    power = Power(PowerSettings(period_s=0.01), Odd())
    power.start(lambda: 0)
    power._thread.join(10)
    assert power.told() == "not measured: a defect: ZeroDivisionError('no volts')"
    assert "a defect in the daemon" in caplog.text
    power.stop()


def test_a_measured_board_is_found_from_the_real_root_or_the_reason_is():
    meter, why = find_meter("auto")
    assert (meter is None) == bool(why)
    if meter:
        meter.close()
    assert all(-60 < celsius < 200 for celsius in find_thermals(fakes.Path("/")).read().values())
