"""The host's clock is set while the daemon runs, and drivers stamp wrongly: told within two seconds, samples go on."""

from __future__ import annotations

import logging
import time
from itertools import pairwise

import pytest

from edge_node.live.fakes import FakeLidarDriver
from fusion.clock import SystemClock

from .conftest import until
from .device import Device

HOUR_S = 3600
LATE_NS = 500_000_000
"""`synchronizer.late_ms`, beyond which nothing is paired."""


class HostClock(SystemClock):
    """The host's clocks, with a wall clock that can be set."""

    def __init__(self, wall_s: float | None = None) -> None:
        self.set_by_ns = 0 if wall_s is None else round(wall_s * 1e9) - time.time_ns()

    def wall_ns(self) -> int:
        return time.time_ns() + self.set_by_ns


class Skewed(FakeLidarDriver):
    """Stamps its sweeps itself: `stamp` makes it of the time of arrival."""

    stamp = staticmethod(lambda arrived: arrived)

    def readings(self):
        for reading in super().readings():
            yield self._mount.reading(Skewed.stamp(reading.capture_time_ns), reading.payload)


def progress(device: Device) -> tuple[float, float]:
    """How many samples it says it made, and how many sweeps came."""
    wanted = ("fusion_edge_samples_total", 'fusion_edge_sensor_frames_total{sensor="roof"}')
    while True:  # while it is too busy it says nothing
        pairs = [line.rsplit(" ", 1) for line in device.get("/metrics")[1].splitlines()]
        told = {pair[0]: float(pair[1]) for pair in pairs if pair[0] in wanted}
        if len(told) == len(wanted):
            return told[wanted[0]], told[wanted[1]]
        time.sleep(0.05)


def more_samples(device: Device, count: int = 20) -> None:
    """Wait until that many more samples were made, and as many sweeps came."""
    began = progress(device)
    until(lambda: all(now > then + count for now, then in zip(progress(device), began, strict=True)), 60)


def check_books(device: Device, slots: list[dict]) -> None:
    """Every frame is a sample or a gap, and no sample has a sweep from beyond the window."""
    summary = device.daemon.summary
    assert summary["samples"] + summary["gaps"] == summary["sensors"]["front"]["frames"]
    assert all(0 <= slot["roof"][1] <= LATE_NS for slot in slots)
    assert slots[-1]["roof"][0] == "present"
    assert summary["edge_ms_p99"] < HOUR_S * 1e3 / 2


def steps_of(device: Device) -> list[int]:
    """Between the samples' times, in their order."""
    times = [row[0] for row in device.query("SELECT time_ns FROM samples ORDER BY sequence")]
    return [after - before for before, after in pairwise(times)]


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_is_set_by_an_hour_is_told_and_samples_go_on(tmp_path, stages, free_port, caplog, hours):
    clock = HostClock()
    device = Device(tmp_path, stages, free_port, clock=clock)

    def conduct() -> None:
        assert device.told()["clock"] == {"steps": 0, "last_step_s": 0.0, "unset": False}
        more_samples(device, 5)
        clock.set_by_ns = hours * HOUR_S * 10**9
        began = time.monotonic()
        until(lambda: device.told()["clock"]["steps"] == 1)
        assert time.monotonic() - began < 2
        assert device.told()["clock"]["last_step_s"] == pytest.approx(hours * HOUR_S, abs=1)
        assert "fusion_edge_clock_steps_total 1.0" in device.get("/metrics")[1]
        more_samples(device)
        assert device.get("/healthz")[0] == 200

    check_books(device, device.play(conduct))
    (line,) = [record.message for record in caplog.records if "clock: the host's" in record.message]
    assert float(line.split(" set by ")[1].split(" s;")[0]) == pytest.approx(hours * HOUR_S, abs=1)
    steps = steps_of(device)
    (jump,) = [step for step in steps if abs(step) > 5e9]
    assert jump == pytest.approx(hours * HOUR_S * 1e9, abs=5e9)
    assert all(step > 0 for step in steps if step != jump)
    told = device.daemon.summary["synchronizer"]
    assert all(kinds == {"clock_set": 1} for kinds in told["by_sensor"].values())
    assert told["clock_set"] >= 1


def test_a_device_that_boots_in_1970_works_and_follows_once_its_clock_is_set(tmp_path, stages, free_port, caplog):
    clock = HostClock(wall_s=12.0)
    device = Device(tmp_path, stages, free_port, clock=clock)

    def conduct() -> None:
        assert device.told()["clock"]["unset"]
        assert "fusion_edge_clock_unset 1.0" in device.get("/metrics")[1]
        more_samples(device)
        clock.set_by_ns = 0
        began = time.monotonic()
        until(lambda: not device.told()["clock"]["unset"])
        assert time.monotonic() - began < 2
        more_samples(device)
        assert device.get("/healthz")[0] == 200

    check_books(device, device.play(conduct))
    assert "the host's was never set, it says 1970" in caplog.text
    assert sum(step > 1e18 for step in steps_of(device)) == 1
    assert all(step > 0 for step in steps_of(device))
    ((first, last),) = device.query("SELECT min(time_ns), max(time_ns) FROM samples")
    assert first < 1e12 < 1.6e18 < last
    assert device.daemon.summary["clock"]["steps"] == 1


def late(arrived: int) -> int:
    return arrived - LATE_NS - 100_000_000


def repeated(arrived: int) -> int:
    return arrived - arrived % 200_000_000


def backwards(arrived: int) -> int:
    return arrived - arrived % 40_000_000 * 2


def an_hour_ahead(arrived: int) -> int:
    return arrived + HOUR_S * 10**9


@pytest.mark.parametrize(
    ("stamp", "fault"),
    [(late, "out_of_window"), (repeated, "duplicate"), (backwards, "out_of_order"), (an_hour_ahead, "clock_set")],
)
def test_a_lidar_that_stamps_wrongly_is_told_by_name_and_samples_go_on(
    tmp_path, stages, free_port, monkeypatch, caplog, stamp, fault
):
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(FakeLidarDriver, "open", Skewed.open)
    right = Skewed.stamp
    device = Device(tmp_path, stages, free_port)

    def conduct() -> None:
        more_samples(device, 5)
        assert device.told()["stamps"] == {}
        monkeypatch.setattr(Skewed, "stamp", staticmethod(stamp))
        began = time.monotonic()
        until(lambda: device.told()["stamps"].get("roof", {}).get(fault))
        assert time.monotonic() - began < 2
        assert f'fusion_edge_stamp_faults_total{{fault="{fault}",sensor="roof"}}' in device.get("/metrics")[1]
        more_samples(device, 40)
        monkeypatch.setattr(Skewed, "stamp", staticmethod(right))
        more_samples(device, 40)
        assert device.get("/healthz")[0] == 200

    slots = device.play(conduct)
    check_books(device, slots)
    assert sum(f"sensor roof: {fault}: " in record.message for record in caplog.records) == 1  # not one a sweep
    assert set(device.daemon.summary["synchronizer"]["by_sensor"]) == {"roof"}
    if stamp in (late, an_hour_ahead):
        assert "absent" in {slot["roof"][0] for slot in slots}
