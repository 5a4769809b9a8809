"""`edge-node bench` on real models, and its arithmetic on the fakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_node import cli
from edge_node.bench.measuring import WARM, Bench
from edge_node.bench.report import summary, table
from edge_node.config import EdgeSettings
from edge_node.factory import PipelineFactory
from edge_node.fakes import FakePerception
from edge_node.power import Power
from edge_node.sources import open_source
from edge_node.spool import Spool
from fusion.clock import SystemClock
from fusion.errors import ConfigError
from fusion.recording.native.synthetic import write_synthetic
from fusion.task import Task

FRAMES = 12


@pytest.fixture(scope="module")
def patrol(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "patrol.mcap"
    write_synthetic(path, frames=FRAMES)
    return path


def run(patrol: Path, tmp_path: Path, most: int = 0):
    settings = EdgeSettings.model_validate({"source": {"path": patrol}})
    task, clock = Task.load("yard"), SystemClock()
    source, perception = open_source(settings.source, task), FakePerception()
    spool = Spool.open(tmp_path / "spool.db", "edge-1", "yard", settings=settings.spool)
    factory = PipelineFactory(settings, task, source, perception, clock)
    done: list[int] = []
    bench = Bench(settings.source, source, factory, spool, Power.off(), clock, most, 4, progress=lambda: done.append(1))
    found = bench.run()
    counted = spool.counts().samples
    spool.close()
    assert len(done) == len(found.timings)
    return found, counted


def test_every_sample_after_the_first_is_counted_and_all_are_committed(patrol, tmp_path):
    found, committed = run(patrol, tmp_path)
    assert committed == FRAMES
    assert len(found.timings) == FRAMES - WARM
    assert len(found.commits_ns) == 3, "9 counted samples in batches of 4, the last with the end of the run"
    assert found.items >= len(found.timings)
    assert all(timing.source > 0 and timing.edge > 0 for timing in found.timings)
    assert sum(timing.edge for timing in found.timings) / 1e9 < found.wall_s
    assert 0 < found.samples_per_s < 1e6


def test_no_more_than_asked_for(patrol, tmp_path):
    found, committed = run(patrol, tmp_path, most=2)
    assert len(found.timings) == 2
    assert committed == WARM + 2


def test_what_is_not_measured_is_said_to_be_so(patrol, tmp_path):
    found, _ = run(patrol, tmp_path)
    power = Power.off()
    told = summary(found, power.summary(), {"task": "yard"})
    assert told["joules_per_sample"] is None
    assert told["decision_ms_p50"] == pytest.approx(told["engine_ms_p50"] + told["beside_ms_p50"], rel=0.01)
    lines = table(told, "no power sensor was found").splitlines()
    assert any(line.startswith("energy a sample") and "not measured: no power" in line for line in lines)


def test_the_command_measures_the_bundled_models(tmp_path, capsys):
    out = tmp_path / "bench.json"
    code = cli.main(["bench", "--samples", "3", "--json", str(out), "--set", f"spool.path={tmp_path / 'spool.db'}"])
    assert code == 0
    told = json.loads(out.read_text())
    assert told["samples"] == 3
    assert 0 < told["engine_ms_p50"] < told["decision_ms_p99"]
    assert told["resident_mib"] > 50
    assert "decoded sample to decision" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"], "the scratch spool is gone"


def test_a_live_configuration_is_measured_on_a_recording(tmp_path, capsys):
    config = tmp_path / "edge.toml"
    config.write_text('[source]\nkind = "live"\n[[source.sensors]]\nname = "front"\nurl = "rtsp://127.0.0.1:1/x"\n')
    options = ["--config", str(config), "--set", f"spool.path={tmp_path / 'spool.db'}"]
    assert cli.main(["bench", *options]) == ConfigError.exit_code
    assert "live sensors" in capsys.readouterr().err
    short = tmp_path / "short.mcap"
    write_synthetic(short, frames=2)
    assert cli.main(["bench", str(short), *options]) == 3
    assert "nothing to measure" in capsys.readouterr().err


def test_a_recording_that_is_too_short_is_refused(tmp_path, capsys):
    short = tmp_path / "short.mcap"
    write_synthetic(short, frames=2)
    assert cli.main(["bench", str(short), "--set", f"spool.path={tmp_path / 'spool.db'}"]) == 3
    assert "nothing to measure after the first 3 samples" in capsys.readouterr().err
