"""Both nodes in one process: deterministic, closed books, and the figures a program can read."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from replay.cli import main
from replay.live.demo import bundled_recording

KEYS = [
    "samples",
    "gaps",
    "items",
    "passed",
    "reviewed",
    "deduplicated",
    "shed",
    "expired",
    "quarantined",
    "lost",
    "duplicates",
    "edge_ms_p50",
    "edge_ms_p99",
    "engine_ms_p50",
    "commit_ms_p50",
    "evidence_bytes_p50",
    "jpeg_bytes_p50",
    "webp_bytes_p50",
    "verdict_accuracy",
    "verdict_accuracy_edge_fused",
    "verdict_accuracy_detector_only",
    "detector_map50",
    "reviews_per_s",
    "review_batch_mean",
]


@pytest.fixture(scope="module")
def runs(cut: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of the patrol's first two seconds; the golden run is of all of it."""
    recording = cut(tmp_path_factory.mktemp("recording") / "patrol.mcap", 0, 2)
    folders = []
    for number in range(2):
        out = tmp_path_factory.mktemp(f"run{number}")
        assert main(["run", str(recording), "--task", "yard", "--out", str(out)]) == 0
        folders.append(out)
    return folders


def test_two_runs_give_the_same_results(runs: list[Path]) -> None:
    first, second = (json.loads((run / "results.json").read_text()) for run in runs)
    assert first["sha256"] == second["sha256"]
    assert (runs[0] / "results.json").read_bytes() == (runs[1] / "results.json").read_bytes()


def test_the_books_close(runs: list[Path]) -> None:
    summary = json.loads((runs[0] / "summary.json").read_text())
    assert not [key for key in KEYS if key not in summary]
    ends = ("passed", "reviewed", "deduplicated", "shed", "expired", "quarantined")
    assert summary["items"] == sum(summary[end] for end in ends) > 0
    assert summary["lost"] == summary["duplicates"] == 0
    assert summary["reviewed"] > 0


def test_evidence_is_a_few_kilobytes(runs: list[Path]) -> None:
    summary = json.loads((runs[0] / "summary.json").read_text())
    assert summary["evidence_bytes_p50"] <= 4096
    assert summary["evidence_bytes_p50"] < summary["jpeg_bytes_p50"]


def test_what_a_person_opens_is_there(runs: list[Path]) -> None:
    page = (runs[0] / "report.html").read_text()
    assert page.count("data:image/") > 3
    assert (runs[0] / "scene.rrd").read_bytes()[:4] == b"RRF2"


def test_truth_of_a_class_the_task_does_not_have_judges_nobody(cut, tmp_path: Path) -> None:
    """Regions that a data set leaves open (`dontcare`) are neither an object nor nothing."""

    def opened(truth):
        things = (replace(t, label="dontcare") if t.label == "crate" else t for t in truth.objects)
        return replace(truth, objects=tuple(things))

    recording = cut(tmp_path / "open.mcap", 0, 1, change_truth=opened)
    assert main(["run", str(recording), "--task", "yard", "--out", str(tmp_path / "out")]) == 0
    items = json.loads((tmp_path / "out" / "results.json").read_text())["items"]
    judged = [item["truth"] for item in items if item["truth"]]
    assert 0 < len(judged) < len(items)
    assert "crate" not in {truth["object"] for truth in judged}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "nowhere.mcap"], 3, "nowhere.mcap"),
        (["run", "{recording}", "--task", "moon"], 2, "moon"),
        (["run", "{recording}", "--set", "edge.screening.alpah=1"], 2, "alpah"),
        (["run", "{recording}", "--set", "edge.screening.calibration=none.json"], 2, "none.json"),
        (["run", "{recording}", "--set", "seed=1"], 2, "edge."),
        (["run", "{recording}", "--models", "/nonexistent"], 4, "/nonexistent"),
        (["run", "{recording}", "--reviewer", "mini:/nonexistent"], 4, "/nonexistent"),
    ],
)
def test_a_user_error_is_one_line_with_its_code(
    arguments: list[str], code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [a.format(recording=bundled_recording("yard")) for a in arguments]
    assert main([*filled, "--out", str(tmp_path)]) == code
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in told
    assert told.startswith("replay: ")
