"""`edge-node calibrate` on a real recording, and a daemon that keeps to what it wrote."""

import json
import logging
from importlib import resources
from pathlib import Path

import pytest

from edge_node.calibration.file import Calibration, calibrated
from edge_node.calibration.trying import Fate, Trial
from edge_node.calibration.watching import Defect, Moment, Watched
from edge_node.cli import main
from edge_node.compose import compose
from edge_node.config import EdgeSettings
from fusion.config import load_toml
from fusion.errors import ConfigError
from fusion.task import Task

RECORDING = Path(str(resources.files("fusion").joinpath("recordings", "yard.mcap")))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibrate") / "edge.toml"
    path.write_text(
        f'task = "yard"\n[source]\npath = "{RECORDING}"\n[screening]\nuncertain_below = 0.0\n'
        f'[spool]\npath = "{path.parent / "spool.db"}"\n[engine]\nthreads = 1\n'
    )
    return path


@pytest.fixture(scope="module")
def written(config: Path) -> Path:
    out = config.with_name("screening.json")
    assert main(["calibrate", str(RECORDING), "--config", str(config), "--alpha", "0.5", "-o", str(out)]) == 0
    return out


def test_few_recordings_are_warned_of(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    moment = Moment(10**9, (), (), (), fresh=True)
    many = [Watched("one.mcap", (moment,), (Defect("drum", "leaking", 3),) * 40, tracking=True)]
    trial = Trial((Fate.SENT,) * 40, 100, 40, 0, 0)
    monkeypatch.setattr("edge_node.calibration.command.watch", lambda *_: many[0])
    tried = lambda seen, _, cuts: [[trial] * len(cuts)] * len(seen)  # noqa: E731
    monkeypatch.setattr("edge_node.calibration.command.try_all", tried)
    command = ["calibrate", *[str(RECORDING)] * 4, "--config", str(config), "-o", str(config.with_name("few.json"))]
    assert main([*command, "--alpha", "0.1"]) == 0
    assert "only 4 recordings hold defects" in caplog.text
    assert "calibrate with 9 or more" in caplog.text
    assert "With recordings as the units" in (told := capsys.readouterr().out)
    assert "the bound is 0.200." in told
    caplog.clear()
    assert main([*command, "--alpha", "0.2"]) == 0
    assert "hold defects" not in caplog.text


def test_a_calibration_says_what_it_promises_and_what_it_costs(written: Path) -> None:
    found = Calibration.load(written)
    assert found.promised <= found.alpha == 0.5
    assert 0 < found.suspect_above <= 1
    assert 0 < found.share < 1
    assert found.per_minute > 0
    assert found.defects == sum(found.curve[0]["fates"].values()) > 3
    missed = [point["missed"] for point in found.curve]
    sent = [point["sent"] for point in found.curve]
    assert missed[0] >= missed[-1]
    assert sent[0] <= sent[-1]


def test_the_daemon_takes_the_threshold(config: Path, written: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = load_toml(config, EdgeSettings, [f"screening.calibration={written}"])
    with caplog.at_level(logging.WARNING):
        daemon = compose(settings)
    daemon.parts.spool.close()
    assert daemon.settings.screening.suspect_above == Calibration.load(written).suspect_above
    assert "promise" not in caplog.text


def test_other_settings_void_the_promise_and_other_models_are_refused(
    config: Path, written: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task, found = Task.load("yard"), Calibration.load(written)
    settings = load_toml(config, EdgeSettings, [f"screening.calibration={written}", "screening.onset_s=0.7"])
    with caplog.at_level(logging.WARNING):
        calibrated(settings, task, found.models)
    assert "made with screening.onset_s = 0.2, now 0.7; its promise does not hold" in caplog.text
    with pytest.raises(ConfigError, match="other models of task yard; run 'edge-node calibrate' again"):
        calibrated(settings, task, {"detector": "another"})
    both = load_toml(config, EdgeSettings, [f"screening.calibration={written}", "screening.suspect_above=0.4"])
    with pytest.raises(ConfigError, match="either calibration or suspect_above"):
        calibrated(both, task, found.models)


@pytest.mark.parametrize("text", ["", "[]", '{"task": "yard"}', None])
def test_what_is_no_calibration_is_refused_by_name(tmp_path: Path, written: Path, text: str | None) -> None:
    path = tmp_path / "screening.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"screening\.json.*'edge-node calibrate' writes one"):
        Calibration.load(path)
    path.write_text(json.dumps(json.loads(written.read_text()) | {"format": 9}))
    with pytest.raises(ConfigError, match="format 9; this program reads format 1"):
        Calibration.load(path)


def test_what_cannot_be_calibrated_says_why(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", str(RECORDING), "--config", str(config), "--alpha", "1.5"]) == 2
    assert "--alpha 1.5: a share between 0 and 1" in capsys.readouterr().err
    assert main(["calibrate", str(tmp_path), "--config", str(config)]) == 3
    assert "no recordings to calibrate on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--side", "-1", "--side -1: pixels, 0 or more"),
        ("--side", "inf", "--side inf: pixels, 0 or more"),
        ("--visibility", "1.5", "--visibility 1.5: a share from 0 to 1"),
        ("--share", "nan", "--share nan: a share from 0 to 1"),
        ("--per-minute", "-3", "--per-minute -3: reviews a minute, 0 or more"),
        ("--out", "/proc/screening.json", "--out /proc/screening.json: cannot be written"),
    ],
)
def test_what_would_end_it_badly_is_refused_before_the_work(
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    value: str,
    told: str,
) -> None:
    monkeypatch.setattr("edge_node.calibration.command.load_perception", lambda *_: pytest.fail("the work began"))
    assert main(["calibrate", str(RECORDING), "--config", str(config), option, value]) == 2
    assert told in capsys.readouterr().err
