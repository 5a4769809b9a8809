"""Short recordings, one that kills whoever opens it, and what a run over them in this process comes to."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from replay.cli import main

READER = '''
import os, signal
from pathlib import Path
from fusion.recording.native.reader import McapReader

class DeadlyReader:
    """Reads the recording that its file names, and kills the process as often as the file says."""

    @staticmethod
    def can_read(path):
        return path.suffix == ".deadly"

    @classmethod
    def open(cls, path, task, split, *, salvage):
        deaths, recording = path.read_text().split(" ", 1)
        if int(deaths):
            path.write_text(f"{int(deaths) - 1} {recording}")
            os.kill(os.getpid(), signal.SIGKILL)
        return McapReader.open(Path(recording), task, split, salvage=salvage)
'''


@pytest.fixture(scope="module")
def parts(cut, tmp_path_factory):
    """Three recordings of half a second each."""
    folder = tmp_path_factory.mktemp("parts")
    return [cut(folder / f"part{n}.mcap", n, n + 0.5) for n in range(3)]


@pytest.fixture(scope="session")
def fixed():
    """Words for a reviewer that starts sooner than one that needs a model."""
    return ("--reviewer", "fixed:yard")


@pytest.fixture(scope="session")
def replay_run():
    """The command line, on recordings and with more words; its exit code."""

    def run(recordings, out: Path, *more: str) -> int:
        return main(["run", *map(str, recordings), "--out", str(out), "--no-scene", *more])

    return run


@pytest.fixture(scope="module")
def reference(parts, replay_run, tmp_path_factory):
    """All three by one worker in this process."""
    out = tmp_path_factory.mktemp("reference")
    assert replay_run(parts, out) == 0
    return SimpleNamespace(out=out, results=(out / "results.json").read_bytes())


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """`.deadly` is a format of recordings, here and in processes started from here."""
    folder = tmp_path_factory.mktemp("plugin")
    found = folder / "deadly-1.dist-info"
    found.mkdir()
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1\n")
    (found / "entry_points.txt").write_text("[fusion.readers]\ndeadly = deadly_reader:DeadlyReader\n")
    (folder / "deadly_reader.py").write_text(READER)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
        yield
    sys.modules.pop("deadly_reader", None)


@pytest.fixture
def deadly(plugin, parts, tmp_path):
    """Makes a recording that kills so many of those who open it."""

    def make(name: str, deaths: int) -> Path:
        path = tmp_path / f"{name}.deadly"
        path.write_text(f"{deaths} {parts[0]}")
        return path

    return make
