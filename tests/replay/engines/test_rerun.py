"""A folder that is run again under other settings: nothing of the run before is taken for what is run now."""

import json
import shutil

import pytest

from fusion.errors import InputError, UnavailableError
from replay.cli import main
from replay.compare.sides import read_side
from replay.live import demo
from replay.results import file
from replay.running.workers import work

OUTCOME = ("results.json", "summary.json", "report.html")


@pytest.fixture(scope="module")
def first(parts, fixed, replay_run, tmp_path_factory):
    """The folder of a run of two recordings."""
    out = tmp_path_factory.mktemp("first")
    assert replay_run(parts[:2], out, *fixed) == 0
    return out


@pytest.fixture
def ran(first, tmp_path):
    """A copy of it."""
    return shutil.copytree(first, tmp_path / "out")


def there(out):
    return [name for name in OUTCOME if (out / name).exists()]


def test_a_rerun_that_fails_leaves_no_results_under_its_settings(
    first, ran, parts, replay_run, tmp_path, capfd
) -> None:
    other = ("--set", "edge.screening.uncertain_below=0.9", "--reviewer", f"mini:{tmp_path / 'nope'}")
    assert replay_run(parts[:2], ran, *other) == 4
    assert there(ran) == []
    assert main(["compare", str(first), str(ran)]) == 3
    assert f"{ran}: no results.json in it" in capfd.readouterr().err
    assert main(["export", str(ran), "--as", "parquet"]) == 3
    assert "none of its recordings was run to its end" in capfd.readouterr().err


def test_models_that_are_not_there_leave_a_run_as_it_is(ran, parts, fixed, replay_run, tmp_path) -> None:
    was = {name: (ran / name).read_bytes() for name in (*OUTCOME, "run.json")}
    assert replay_run(parts[:2], ran, *fixed, "--models", str(tmp_path / "typo")) != 0
    assert {name: (ran / name).read_bytes() for name in was} == was
    assert main(["export", str(ran), "--as", "parquet"]) == 0


def test_what_was_not_begun_yet_is_not_exported_under_other_settings(
    ran, parts, fixed, replay_run, capfd, monkeypatch
) -> None:
    """Would fail if a run that is ended at its first recording left the second one done, as it was before."""

    def ended(*_given, **_named):
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "play", ended)
    assert replay_run(parts[:2], ran, *fixed, "--set", "edge.screening.uncertain_below=0.9") == 130
    assert there(ran) == []
    assert main(["export", str(ran), "--as", "parquet"]) == 3
    assert "none of its recordings was run to its end" in capfd.readouterr().err


def test_evidence_of_the_device_alone_does_not_outlast_a_run_of_both(parts, fixed, replay_run, tmp_path) -> None:
    assert replay_run(parts[:1], tmp_path, "--edge-only") == 0
    evidence = tmp_path / "recordings" / "part0" / "evidence.mcap"
    assert evidence.exists()
    assert replay_run([evidence], tmp_path, "--cloud-only", *fixed) == 3
    assert evidence.exists()
    assert there(tmp_path) == list(OUTCOME)
    assert replay_run(parts[:1], tmp_path, *fixed) == 0
    assert not evidence.exists()


def test_results_of_other_settings_than_the_folder_tells_are_refused(ran) -> None:
    manifest = json.loads((ran / "run.json").read_text())
    manifest["variant"]["sets"] = ["edge.screening.uncertain_below=0.9"]
    (ran / "run.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=rf"{file.NAME}: of other settings than .*run\.json; run it again"):
        read_side(ran)


def test_a_demo_that_does_not_start_leaves_nothing_of_an_earlier_run(ran, parts, monkeypatch) -> None:
    """Would fail if a run in its folder took what is left of it for what was run before."""

    def away(*_given, **_named):
        raise UnavailableError("no service here")

    monkeypatch.setattr(demo, "service", away)
    assert main(["demo", str(parts[0]), "--out", str(ran)]) == 5
    assert there(ran) == []
    assert [path.parent.name for path in ran.glob("recordings/*/done.json")] == ["part1"]
