"""The trial's rules on scripted models, and the whole command on the real ones."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from edge_node import cli
from edge_node.config import EngineSettings
from edge_node.doctor.agreement import compare
from edge_node.doctor.command import check_writable
from edge_node.doctor.frames import natural_picture, still
from edge_node.doctor.report import engine_toml, trial_table
from edge_node.doctor.trial import REFERENCE, Candidate, Trial, candidates, choose
from fusion.engines import Precision
from fusion.errors import ConfigError, InputError, ModelError
from fusion.perception.detector import DetectorResult
from fusion.preparation import Placement
from fusion.task import Task
from fusion.types import Box2D, Detection

PCB = Task.load("pcb")


def result(*boxes: tuple[str, float, float], codes: int = 0) -> DetectorResult:
    """Detections (label, score, x) of 40 pixels' side, and 1000 codes of which `codes` are 1."""
    found = [Detection(Box2D(x, 0, x + 40, 40), label, score, np.zeros(6, np.float32)) for label, score, x in boxes]
    maps = np.zeros((1, 10, 100), np.int8)
    maps.reshape(-1)[:codes] = 1
    return DetectorResult(tuple(found), [maps], [], Placement(1.0, 0.0, 0.0), 0)


def test_agreement_counts_what_either_side_has_alone():
    mine = result(("open", 0.9, 0), ("short", 0.8, 100), ("spur", 0.1, 200))
    assert compare([mine], [mine]).fits
    assert compare([mine], [mine]).detections == 4
    assert compare([mine], [result(("open", 0.9, 1), ("short", 0.8, 101))]).fits, "moved by a pixel"
    assert compare([mine], [result(("open", 0.9, 0))]).matched == pytest.approx(2 / 3)
    assert compare([result(("open", 0.9, 0))], [mine]).matched == pytest.approx(2 / 3)
    assert compare([mine], [result(("short", 0.9, 0), ("short", 0.8, 100))]).matched == pytest.approx(1 / 2)
    assert not compare([mine], [result(("open", 0.9, 10), ("short", 0.8, 100))]).fits, "moved too far"


def test_agreement_counts_equal_codes():
    assert compare([result()], [result(codes=20)]).fits
    far = compare([result()], [result(codes=21)])
    assert not far.fits
    assert far.reason == "97.9% of codes equal"


class Scripted:
    """A detector that answers `found` after `took_ns` of a clock it shares."""

    def __init__(self, clock, found, took_ns):
        self.profile = type("Profile", (), {"sha256": "", "image_width": 640, "image_height": 640})()
        self._clock, self._found, self._took_ns = clock, found, took_ns

    def run(self, image):
        self._clock.now += self._took_ns
        return self._found


class Clock:
    now = 0

    def monotonic_ns(self):
        return self.now

    def wall_ns(self):
        return self.now


def test_the_fastest_that_agrees_is_chosen():
    clock, right = Clock(), result(("open", 0.9, 0))
    script = {
        ("onnxruntime", 1): (right, 9_000_000),
        ("onnxruntime", 2): (right, 6_000_000),
        ("openvino", 1): (result(("short", 0.9, 0)), 1_000_000),
    }

    def load(settings: EngineSettings):
        if settings.backend == "cuda":
            raise ModelError("no such GPU")
        return Scripted(clock, *script[settings.backend, settings.threads]), None

    trial = Trial(PCB, "line", load, still(PCB, "line", fused=False), EngineSettings(), rounds=4, clock=clock)
    ways = [REFERENCE, *(Candidate(*way, "f32") for way in (("onnxruntime", 2), ("openvino", 1), ("cuda", 1)))]
    tried = list(trial.run(ways))
    assert [one.candidate for one in tried] == ways
    assert tried[1].detector_ms == tried[1].perception_ms == (6.0,) * 4
    chosen = choose(tried)
    assert chosen is tried[1]
    rows = trial_table(tried, chosen).splitlines()
    assert rows[2].endswith("*")
    assert "refused: 0.0% of detections matched" in rows[3]
    assert "cannot run: no such GPU" in rows[4]
    wanted = {"backend": "onnxruntime", "threads": 2, "precision": "f32"}
    assert tomllib.loads(engine_toml(chosen.candidate)) == {"engine": wanted}


def test_candidates_are_engines_by_threads_by_bits():
    both = (Precision.F32, Precision.BF16)
    ways = candidates({"openvino": both, "cuda": both[:1]}, 6)
    assert [way.threads for way in ways if way.backend == "openvino"] == [1, 1, 2, 2, 3, 3, 4, 4, 6, 6]
    assert [way.threads for way in ways if way.backend == "cuda"] == [6]
    assert {way.precision for way in ways} == {"f32", "bf16"}


def test_a_made_picture_is_smooth_as_the_world_is():
    picture = natural_picture(120, 200).astype(float)
    assert picture.shape == (120, 200, 3)
    assert np.abs(np.diff(picture, axis=1)).mean() < 0.6 * picture.std(), "white noise has 1.13"
    with pytest.raises(InputError, match="give --recording"):
        still(Task.load("yard"), "front", fused=True)


def test_the_command_measures_and_writes_what_the_daemon_reads(tmp_path, capsys):
    out = tmp_path / "engine.toml"
    spool = f"spool.path={tmp_path / 'spool.db'}"
    code = cli.main(["doctor", "--samples", "2", "--write", str(out), "--set", spool])
    told = capsys.readouterr().out
    assert code == 0, told
    assert re.search(r"ok +models .*SHA256SUMS", told)
    assert re.search(r"onnxruntime +1 +f32 +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+  100.0%", told)
    written = tomllib.loads(out.read_text())
    EngineSettings.model_validate(written["engine"])
    assert "0 fail" in told


def test_the_command_fails_where_a_check_fails(tmp_path, capsys):
    spool = f"spool.path={tmp_path / 'spool.db'}"
    code = cli.main(["doctor", "--recording", str(tmp_path / "none.mcap"), "--set", spool])
    assert code == 1
    assert re.search(r"fail +trial .*none\.mcap", capsys.readouterr().out)


def test_other_settings_are_never_overwritten(tmp_path, capsys):
    out = tmp_path / "edge.toml"
    for text in ('device = "x"\n', '[engine]\ncache = "here"\n', "engine = 3\n", "[[engine]]\n", "not toml"):
        out.write_text(text)
        assert cli.main(["doctor", "--write", str(out)]) == 2
        assert out.read_text() == text
        assert str(out) in capsys.readouterr().err
    assert cli.main(["doctor", "--write", str(tmp_path / "no" / "engine.toml")]) == 2


def test_a_file_that_cannot_be_written_is_noticed_before_the_trial(tmp_path, capsys, monkeypatch):
    for out in (Path("/proc/engine.toml"), tmp_path):
        assert cli.main(["doctor", "--write", str(out)]) == 2
        assert f"--write {out}: " in capsys.readouterr().err
    out = tmp_path / "engine.toml"
    check_writable(out)
    assert not out.exists()
    out.write_text("[engine]\nthreads = 3\n")
    check_writable(out)
    assert out.read_text() == "[engine]\nthreads = 3\n"

    def refuse(path, mode="r", *arguments, **options):
        if "r" not in mode:
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path, mode, *arguments, **options)

    usual = Path.open
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match=r"engine\.toml: cannot be written \(Permission denied\)"):
        check_writable(out)
