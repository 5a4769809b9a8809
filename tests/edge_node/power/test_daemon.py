"""A running daemon on a board made of files: power rises, the gear falls, frames become gaps, and all comes back."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_node.compose import compose
from edge_node.config import EdgeSettings
from edge_node.daemon import Daemon, Parts
from edge_node.fakes import FakePerception, FakeSource, camera_frames
from edge_node.models import model_folder
from edge_node.power import GearedPerception, Power, fakes
from edge_node.spool import Spool
from fusion.codec import Profile
from fusion.errors import ConfigError, ModelError
from fusion.recording.native.synthetic import write_synthetic
from fusion.task import Task

REASON = "over the power budget"


class Run:
    """A daemon on a fake Orin; `conduct` runs beside it, and with it the daemon ends."""

    def __init__(self, folder: Path, frames: int = 3000, **power) -> None:
        self.board = fakes.orin_nano(folder / "root")
        self.settings = EdgeSettings(
            device="cart-1",
            source={"path": "unused", "pace": "realtime"},
            spool={"path": folder / "spool.db", "keep_free_bytes": 0},
            uplink={"address": "127.0.0.1:1"},
            drain={"grace_s": 1.0},
            power={"period_s": 0.02, **power},
        )
        perception = GearedPerception(FakePerception())
        self.power = Power.open(self.settings.power, perception, lambda _: FakePerception(), root=self.board.root)
        spool = Spool.open(self.settings.spool.path, "cart-1", "yard", settings=self.settings.spool)
        source = FakeSource(camera_frames(frames, rate_hz=50))
        self.lines: list[str] = []
        parts = Parts(Task.load("yard"), source, perception, spool, self.power)
        self.daemon = Daemon(self.settings, parts, ready=self.lines.append)
        self.faults: list[BaseException] = []

    def until(self, condition) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.005)

    def samples(self, more: int) -> None:
        """Wait for so many further samples."""
        wanted = self.power._samples + more
        self.until(lambda: self.power._samples >= wanted)

    def play(self, conduct) -> None:
        def beside() -> None:
            try:
                conduct()
            except BaseException as error:
                self.faults.append(error)
            self.daemon.stop()

        thread = threading.Thread(target=beside)
        thread.start()
        self.daemon.run()
        thread.join()
        assert not self.faults

    def query(self, sql: str) -> list:
        spool = Spool.open(self.settings.spool.path, "cart-1", "yard")
        try:
            return spool.query(sql)
        finally:
            spool.close()


def test_the_gear_falls_with_the_budget_and_returns(tmp_path):
    gears = ({}, {"rate_hz": 5.0})
    run = Run(tmp_path, budget_watts=10.0, react_s=0.2, recover_s=0.5, gears=gears)

    def conduct() -> None:
        run.samples(10)
        run.board.draw(20.0)
        run.until(lambda: run.power.status.gear == 1)
        run.samples(4)
        run.board.draw(5.0)
        run.until(lambda: run.power.status.gear == 0)
        run.samples(10)

    run.play(conduct)
    (line,) = run.lines
    assert line.endswith("; power from ina3221 VDD_IN (the board's input)")
    ((samples, last),) = run.query("SELECT count(*), max(cursor) FROM samples")
    gaps = run.query("SELECT first, last, count, reason FROM gaps ORDER BY first")
    assert {reason for *_, reason in gaps} == {REASON}
    assert samples + sum(count for _, _, count, _ in gaps) == last  # every frame is a sample or a declared gap
    between = [c for (c,) in run.query("SELECT cursor FROM samples") if gaps[0][0] < c < gaps[-1][1]]
    steps = np.diff(sorted(between))
    assert len(between) >= 3
    assert set(steps.tolist()) <= {9, 10, 11}  # of 50 frames a second, 5
    assert last > gaps[-1][1]
    summary = run.daemon.summary
    assert summary["gaps"] == sum(count for _, _, count, _ in gaps)
    assert summary["power_source"] == "ina3221 VDD_IN"
    assert 5.0 < summary["power_w_mean"] < 20.0
    assert summary["joules_per_sample"] > 0
    assert summary["joules_per_review"] is None
    assert 0 <= summary["unmeasured_s"] < 1


def test_a_sensor_that_vanishes_does_not_end_the_daemon(tmp_path):
    run = Run(tmp_path)
    health: list[dict] = []

    def conduct() -> None:
        run.samples(5)
        shutil.rmtree(run.board.root / fakes.ORIN)
        run.until(lambda: run.power.status.why)
        health.append(run.daemon._health()[1])
        run.samples(5)

    run.play(conduct)
    assert health[0]["power"].startswith("not measured: ")
    assert "no such file" in health[0]["power"]
    assert run.daemon.summary["power_source"] == "ina3221 VDD_IN"
    assert run.daemon.summary["unmeasured_s"] > 0
    assert run.query("SELECT count(*) FROM gaps") == [(0,)]


def test_without_power_parts_the_summary_says_null(tmp_path):
    settings = EdgeSettings(
        source={"path": "unused"}, spool={"path": tmp_path / "spool.db", "keep_free_bytes": 0},
        uplink={"address": "127.0.0.1:1"}, drain={"grace_s": 0.5},
    )  # fmt: skip
    spool = Spool.open(settings.spool.path, "edge-1", "yard", settings=settings.spool)
    lines: list[str] = []
    parts = Parts(Task.load("yard"), FakeSource(camera_frames(5)), FakePerception(), spool)
    daemon = Daemon(settings, parts, ready=lines.append)
    threading.Timer(0.5, daemon.stop).start()
    daemon.run()
    assert lines[0].endswith("; power not measured: switched off")
    assert daemon.summary["samples"] == 5
    assert (
        daemon.summary["power_source"] is daemon.summary["power_w_mean"] is daemon.summary["joules_per_sample"] is None
    )


def yard_bundle() -> Path:
    try:
        return model_folder(Task.load("yard"), "")
    except ModelError:
        pytest.skip("the models of task yard are not bundled in this checkout")


def without_fusion(folder: Path) -> Path:
    """A bundle on the yard's own trunk that has only the detector."""
    folder.mkdir()
    for name in ("detector.onnx", "profile.json", "profile.npz"):
        shutil.copy(yard_bundle() / name, folder / name)
    return folder


def test_gears_are_loaded_at_the_start_and_must_stand_on_the_same_trunk(tmp_path, monkeypatch):
    patrol = tmp_path / "patrol.mcap"
    write_synthetic(patrol, frames=3)
    own, light = (without_fusion(tmp_path / name) for name in ("own", "light"))
    board = fakes.orin_nano(tmp_path / "root")
    opened = Power.open
    monkeypatch.setattr(Power, "open", lambda *given: opened(*given, root=board.root))

    def settings(models: Path) -> EdgeSettings:
        return EdgeSettings(
            models=str(own), source={"path": patrol}, spool={"path": tmp_path / "spool.db"}, engine={"threads": 1},
            power={"budget_watts": 10.0, "gears": ({}, {"models": str(models)})},
        )  # fmt: skip

    daemon = compose(settings(light))
    daemon.parts.power.stop()
    daemon.parts.spool.close()
    (tmp_path / "spool.db").unlink()
    with pytest.raises(ModelError, match="nowhere: no models of task yard there"):
        compose(settings(tmp_path / "nowhere"))
    profile = Profile.load(light)
    levels = tuple(replace(level, step=level.step * np.float32(2)) for level in profile.levels)
    Profile.create(
        task="yard", image_width=profile.image_width, image_height=profile.image_height, levels=levels,
        trunk_sha256=profile.trunk_sha256,
    ).save(light)  # fmt: skip
    with pytest.raises(ConfigError, match=r"power\.gears: .*light has the profile .* must stand on the same trunk"):
        compose(settings(light))
    assert not (tmp_path / "spool.db").exists()
