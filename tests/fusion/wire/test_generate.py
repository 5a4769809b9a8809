"""The committed stubs are what `proto/` says, and old runtimes can read them."""

import re
import tomllib
from pathlib import Path

import pytest

from fusion.wire import generate

ROOT = Path(__file__).parents[3]
STUBS = ROOT / "fusion" / "wire" / "v1"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    out = tmp_path_factory.mktemp("stubs")
    return {name.name: (out / name).read_bytes() for name in generate.generate(out)}


def test_the_committed_stubs_are_fresh(fresh):
    committed = {path.name: path.read_bytes() for path in STUBS.glob("*_pb2*")}
    assert sorted(committed) == sorted(fresh)
    stale = [name for name, text in fresh.items() if committed[name] != text]
    assert not stale, f"run python -m fusion.wire.generate: {stale}"


def test_no_stub_asks_for_more_than_the_project_does(fresh):
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    floors = dict(re.fullmatch(r"([a-z-]+)>=([\d.]+).*", line).groups() for line in asked if ">=" in line)
    for name, text in fresh.items():
        if name.endswith("_pb2.py"):
            major, minor = re.search(rb"Domain\.PUBLIC,\s+(\d+),\s+(\d+),", text).groups()
            assert f"{int(major)}.{int(minor)}" == floors["protobuf"], name
        if name.endswith("_pb2_grpc.py"):
            version = re.search(rb"GRPC_GENERATED_VERSION = '([\d.]+)'", text).group(1).decode()
            assert version.startswith(floors["grpcio"]), name


def test_check_names_a_stale_stub(monkeypatch, capsys, tmp_path):
    copied = tmp_path / "fusion" / "wire" / "v1"
    copied.mkdir(parents=True)
    for path in STUBS.glob("*_pb2*"):
        (copied / path.name).write_bytes(path.read_bytes())
    (tmp_path / "proto").symlink_to(ROOT / "proto")
    monkeypatch.setattr(generate, "_ROOT", tmp_path)
    assert generate.main(["--check"]) == 0
    (copied / "review_pb2.pyi").write_text("")
    (copied / "gone_pb2.py").write_text("")
    assert generate.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert "review_pb2.pyi" in said
    assert "gone_pb2.py" in said


def test_without_sources_it_says_where_it_looked(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(generate, "_ROOT", tmp_path)
    assert generate.main([]) == 2
    assert str(tmp_path) in capsys.readouterr().err
