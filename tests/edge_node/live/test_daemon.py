"""A daemon on live sensors: faults are told within two seconds, samples go on, dropped frames are declared."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager

from edge_node.spool import Spool
from edge_node.spool.files import SpoolFullError
from fusion.errors import SensorError

from .conftest import picture, until
from .device import Device, Slow


def test_a_full_disk_is_told_and_no_reason_for_a_new_start(tmp_path, stages, free_port, monkeypatch):
    """A watchdog that starts the daemon anew would find the spool closed to it, and in the end leave it stopped."""
    device = Device(tmp_path, stages, free_port, stalled_s=0.5)
    full, transaction = threading.Event(), Spool.transaction

    @contextmanager
    def guarded(spool):
        if full.is_set():
            raise SpoolFullError(f"{spool.path}: the disk is full")
        with transaction(spool) as inside:
            yield inside

    monkeypatch.setattr(Spool, "transaction", guarded)

    def conduct() -> None:
        full.set()
        until(lambda: json.loads(device.get("/healthz")[1]).get("seconds_since_progress", 0) > 1)
        status, told = device.get("/healthz")
        assert (status, json.loads(told)["disk_full"]) == (503, True)
        assert device.daemon._works()
        full.clear()
        until(lambda: device.get("/healthz")[0] == 200)
        seen = device.sensor("front")["frames"]
        until(lambda: device.sensor("front")["frames"] > seen + 20)

    assert len(device.play(conduct)) > 5
    assert device.query("SELECT sum(count) FROM gaps")[0][0] > 5  # 50 frames a second went by


def test_a_dead_lidar_is_told_and_samples_go_on(tmp_path, stages, free_port):
    device = Device(tmp_path, stages, free_port)

    def conduct() -> None:
        device.playing.discard("spin")
        stages["spin"].there = False
        stages["spin"].script.put(SensorError("fake-lidar://spin: broke off"))
        began = time.monotonic()
        until(lambda: device.sensor("roof")["state"] == "failed")
        assert time.monotonic() - began < 2
        seen = device.sensor("front")["frames"]
        until(lambda: device.sensor("front")["frames"] > seen + 40)  # 0.8 s: the last sweep is too old by then
        assert device.get("/healthz")[0] == 200
        assert 'fusion_edge_sensor_state{sensor="roof",state="failed"} 1.0' in device.get("/metrics")[1]
        stages["spin"].there = True
        device.playing.add("spin")
        until(lambda: device.sensor("roof")["state"] == "streaming")
        seen = device.sensor("front")["frames"]
        until(lambda: device.sensor("front")["frames"] > seen + 10)

    slots = device.play(conduct)
    states = [slot["roof"][0] for slot in slots]
    assert {"present", "absent"} <= set(states)
    assert states[-1] == "present"
    assert {slot["mic"][0] for slot in slots} == {"absent"}
    summary = device.daemon.summary["sensors"]["roof"]
    assert summary["restarts"] >= 1


def test_a_dead_camera_makes_the_device_unhealthy_until_it_is_back(tmp_path, stages, free_port):
    device = Device(tmp_path, stages, free_port)

    def conduct() -> None:
        device.playing.discard("eye")
        began = time.monotonic()
        until(lambda: device.get("/healthz")[0] == 503)
        assert time.monotonic() - began < 2
        assert device.sensor("front")["why"] == "no data for 0.5 s"
        device.playing.add("eye")
        until(lambda: device.get("/healthz")[0] == 200)

    assert device.play(conduct)


def test_every_frame_is_a_sample_or_a_declared_gap(tmp_path, stages, free_port):
    device = Device(tmp_path, stages, free_port)

    def conduct() -> None:
        Slow.seconds = 0.1
        seen = device.sensor("front")["frames"]
        until(lambda: device.sensor("front")["frames"] > seen + 60)
        Slow.seconds = 0.0
        device.playing.clear()
        until(stages["eye"].script.empty)
        until(lambda: device.get("/healthz")[0] == 503)  # silent: what was held has been taken

    device.play(conduct)
    frames = device.daemon.summary["sensors"]["front"]
    gaps = dict(device.query("SELECT reason, sum(count) FROM gaps GROUP BY reason"))
    assert gaps["overtaken by a newer frame"] == frames["drops"]["overtaken by a newer one"] > 20
    assert device.daemon.summary["samples"] + sum(gaps.values()) == frames["frames"]


def test_every_trigger_is_a_sample_or_a_declared_gap(tmp_path, stages, free_port):
    trigger = {"url": "fake://bell", "backoff_first_s": 0.01, "backoff_max_s": 0.02}
    device = Device(tmp_path, stages, free_port, stalled_s=0.5, trigger=trigger)
    bell = stages["bell"].script

    def ring() -> None:
        rung = device.sensor("trigger")["frames"]
        bell.put(picture())
        until(lambda: device.sensor("trigger")["frames"] > rung)

    def conduct() -> None:
        for _ in range(10):
            ring()
        device.playing.discard("spin")
        until(lambda: device.sensor("roof")["state"] == "silent")
        time.sleep(1)  # nothing is asked for, which is no standstill
        assert device.get("/healthz")[0] == 200
        device.playing.discard("eye")
        until(stages["eye"].script.empty)
        time.sleep(0.1)
        ring()
        until(lambda: device.sensor("trigger")["drops"] == {"a trigger without a frame": 1})
        device.playing.add("eye")
        until(lambda: device.get("/healthz")[0] == 200)
        stages["bell"].there = False
        bell.put(SensorError("fake://bell: the wire is cut"))
        until(lambda: device.get("/healthz")[0] == 503)
        assert 'fusion_edge_sensor_state{sensor="trigger",state="failed"} 1.0' in device.get("/metrics")[1]
        stages["bell"].there = True
        until(lambda: device.get("/healthz")[0] == 200)
        ring()

    device.play(conduct)
    summary, gaps = device.daemon.summary, dict(device.query("SELECT reason, sum(count) FROM gaps GROUP BY reason"))
    asked, front = summary["sensors"]["trigger"], summary["sensors"]["front"]
    assert asked["frames"] == 12 == summary["samples"] + sum(gaps.values())
    assert gaps["a trigger without a frame"] >= 1
    assert asked["restarts"] >= 1
    passed_on = front["frames"] - front["drops"]["not asked for"]
    assert passed_on == 12 - gaps["a trigger without a frame"]
