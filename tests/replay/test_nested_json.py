"""Lists in lists without end, in any JSON that somebody may have handed over, are one line like other broken JSON."""

import gzip
import json
import shutil
from pathlib import Path

import pytest

from edge_node.calibration.file import Calibration
from fusion.codec.profile import Profile
from fusion.errors import FusionError
from fusion.preparation.fusion_spec import FusionSpec
from fusion.review.folder import read_json
from fusion.review.together import load_together
from fusion.task import Task
from replay.cli import main
from replay.results.file import FORMAT
from replay.running.folder import FORMAT as RUN_FORMAT
from replay.running.folder import RunFolder
from replay.sources.cache import Cache
from replay.sources.remote import describe

DEEP = "[" * 100_000
ALMOST = f'{{"format": {FORMAT}, "sha256": "", "more": {"[" * 985}{"]" * 985}}}'
BUNDLE = Path(__file__).parents[2] / "fusion" / "weights" / "yard"


@pytest.fixture
def run(tmp_path):
    """A run's folder with its manifest alone."""
    told = {"format": RUN_FORMAT, "task": "yard", "mode": "both", "variant": {}, "jobs": [{"name": "a", "source": "a"}]}
    (tmp_path / "run.json").write_text(json.dumps(told))
    (tmp_path / "recordings" / "a").mkdir(parents=True)
    (tmp_path / "recordings" / "a" / "ledger.db").touch()
    return tmp_path


def told(capsys):
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize("text", [DEEP, ALMOST, ALMOST.replace("[", '{"a":[').replace("]", "]}")])
@pytest.mark.parametrize("name", ["results.json", "golden.json", "golden.json.gz"])
def test_results(run, capsys, name, text):
    path = run / name
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    assert main(["compare", str(path), str(path)]) == 3
    assert told(capsys).startswith(f"replay: {path}: ")


def test_a_manifest(run, capsys):
    (run / "run.json").write_text(DEEP)
    for words in (["export", str(run), "--as", "coco"], ["run", str(run), "--cloud-only", "--out", str(run / "out")]):
        assert main(words) == 3
        assert told(capsys).startswith(f"replay: {run}/run.json: not the manifest of a run (lists or objects in")


def test_what_is_noted_of_a_recording_is_nothing(run, capsys):
    for name in ("done.json", "facts.json"):
        (run / "recordings" / "a" / name).write_text(DEEP)
    assert RunFolder(run).facts("a") == RunFolder(run).done("a") == {}
    assert main(["run", str(run), "--cloud-only", "--out", str(run / "out")]) == 3
    assert "was not run to its end" in told(capsys)


def test_a_note_of_the_cache_is_none(tmp_path):
    source = tmp_path / "a.mcap"
    source.write_text("content")
    url, folder = f"local://{source}", tmp_path / "cache"
    held = Cache(folder, 1_000_000).hold(url)
    (note,) = folder.glob("*.json")
    note.write_text(DEEP)
    again = Cache(folder / ".", 1_000_000)
    again._reserve("other", {"url": url, "bytes": describe(url).size})
    assert held.path.read_text() == "content"


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("profile.json", Profile.load),
        ("fusion.json", FusionSpec.load),
        ("reviewer/together.json", lambda folder: load_together(folder / "reviewer", Task.load("yard"))),
        ("reviewer/reviewer.json", lambda folder: read_json(folder / "reviewer" / "reviewer.json")),
        ("calibration.json", lambda folder: Calibration.load(folder / "calibration.json")),
    ],
)
def test_what_models_are_described_by(tmp_path, name, load):
    for part in ("profile.npz", "profile.json", "fusion.json"):
        shutil.copy(BUNDLE / part, tmp_path / part)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(DEEP)
    with pytest.raises(FusionError, match=rf"{path}: .*too deep to be read"):
        load(tmp_path)
