"""The bundled model looks at the bundled recording: what it sees is there, and what it did without is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fusion.cli import main

YARD = Path(__file__).parents[3] / "fusion/recordings/yard.mcap"
AT = 4.0


def seen(tmp_path: Path, *options: str) -> dict:
    """The JSON of the moment at four seconds; the picture is `seen.jpg` beside it."""
    objects = tmp_path / "seen.json"
    command = ["perceive", str(YARD), "--at", str(AT), "--truth", "--json", str(objects)]
    assert main([*command, *options, "-o", str(tmp_path / "seen.jpg")]) == 0
    (frame,) = json.loads(objects.read_text())["frames"]
    return frame


def test_what_is_found_is_where_the_truth_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = seen(tmp_path)
    assert frame["at_s"] == pytest.approx(AT, abs=0.051)
    assert {name: sensor["part"] for name, sensor in frame["sensors"].items()} == dict.fromkeys(
        ("front", "roof", "mic"), "read"
    )
    assert frame["sensors"]["roof"]["points"] > 1000
    places = [(one["label"], one["box3d"]["x"], one["box3d"]["y"]) for one in frame["truth"]]
    gaps = [
        min(
            (np.hypot(one["box3d"]["x"] - x, one["box3d"]["y"] - y) for label, x, y in places if label == one["label"]),
            default=np.inf,
        )
        for one in frame["objects"]
    ]
    assert len(gaps) >= 4
    assert np.mean(np.array(gaps) < 0.5) >= 0.75
    assert frame["heard"]["intent"] == "inspect"
    (asked,) = [one for one in frame["objects"] if one["asked_score"] >= 0.5]
    (wanted,) = [one for one in frame["truth"] if one["asked_for"]]
    assert asked["label"] == wanted["label"]
    assert abs(asked["box3d"]["x"] - wanted["box3d"]["x"]) < 0.5
    said = capsys.readouterr().out
    assert "heard inspect" in said
    assert "from front 0 ms, roof" in said
    assert cv2.imread(str(tmp_path / "seen.jpg")).shape[1] == 1280


@pytest.mark.parametrize(
    ("withheld", "sensor", "modality"),
    [("camera", "front", "camera"), ("lidar", "roof", "lidar"), ("mic", "mic", "speech")],
)
def test_a_sensor_held_back_is_told_and_the_rest_goes_on(
    withheld: str, sensor: str, modality: str, tmp_path: Path
) -> None:
    frame = seen(tmp_path, "--without", withheld)
    told = frame["sensors"].pop(sensor)
    assert told == {"modality": modality, "part": "withheld", "present": False, "age_s": None}
    assert {one["part"] for one in frame["sensors"].values()} == {"read"}
    assert len(frame["objects"]) >= 3
    assert (frame["heard"] is None) == (sensor == "mic")
    assert any(one["asked_score"] >= 0.5 for one in frame["objects"]) == (sensor != "mic")


def test_without_any_sensor_the_answer_is_finite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--without", "camera", "--without", "lidar", "--without", "speech", "--score", "0")
    frame = seen(tmp_path, *options)
    assert not any(sensor["present"] for sensor in frame["sensors"].values())
    for one in frame["objects"]:
        assert np.isfinite([one["score"], *one["box3d"].values()]).all()
    assert "from no sensor at all" in capsys.readouterr().out


def test_several_moments_fill_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "seen"
    assert main(["perceive", str(YARD), "--every", "2", "--limit", "2", "-o", str(out)]) == 0
    assert [path.name for path in sorted(out.iterdir())] == ["000000.100s.png", "000002.000s.png"]
    assert "mic (silent)" in capsys.readouterr().out


def test_a_bundle_is_shown_without_torch() -> None:
    script = "import sys, fusion.viewing.command, fusion.viewing.items; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
