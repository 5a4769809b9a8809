"""A second of the bundled patrol, run by both nodes and by the device alone."""

import json
from types import SimpleNamespace

import pytest

from replay.cli import main
from replay.running.evidence.layout import NAME


def run(*arguments) -> int:
    return main(["run", *map(str, arguments), "--no-scene"])


def read(out, name="results.json"):
    return json.loads((out / name).read_text())


@pytest.fixture(scope="session")
def ways():
    """`run(*arguments)` gives the exit code of `replay run`, `read(out, name)` a JSON file of it."""
    return SimpleNamespace(run=run, read=read)


@pytest.fixture(scope="session")
def recording(cut, tmp_path_factory):
    return cut(tmp_path_factory.mktemp("recording") / "second.mcap", 1, 2)


@pytest.fixture(scope="session")
def both(recording, tmp_path_factory):
    """The folder of a run of both nodes."""
    out = tmp_path_factory.mktemp("both")
    assert run(recording, "--out", out) == 0
    return out


@pytest.fixture(scope="session")
def edge(recording, tmp_path_factory):
    """The folder of a run of the device alone."""
    out = tmp_path_factory.mktemp("edge")
    assert run(recording, "--edge-only", "--out", out) == 0
    return out


@pytest.fixture(scope="session")
def evidence(edge):
    """Its evidence file."""
    return edge / "recordings" / "second" / NAME
