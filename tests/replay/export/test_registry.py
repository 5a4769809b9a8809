"""Exports are found by name, and told what they cannot do in one line."""

import json
import shutil
from importlib.metadata import EntryPoint

import pytest
from rerun.chunk import RrdReader

from fusion.errors import ConfigError
from replay.cli import main
from replay.export import registry
from replay.export.base import Exported, UnsuitedError
from replay.export.registry import export, exporter


def unsuited(results, opened, out):
    raise UnsuitedError("recording drawn: it has no wings")


def suited(results, opened, out):
    return Exported((out / "wings",), ("two of them",))


@pytest.fixture
def birds(monkeypatch):
    points = [EntryPoint(name, f"{__name__}:{name}", registry.GROUP) for name in ("suited", "unsuited")]
    points.append(EntryPoint("absent", "no.such.module:export", registry.GROUP))
    loaded = {"suited": suited, "unsuited": unsuited}

    class Point:
        def __init__(self, point):
            self.name, self._point = point.name, point

        def load(self):
            return loaded.get(self.name) or self._point.load()

    monkeypatch.setattr(registry, "entry_points", lambda *, group: [Point(point) for point in points])


def test_what_makes_no_sense_is_an_error_when_it_is_all_that_was_asked_for(birds, drawn_run, tmp_path):
    with pytest.raises(UnsuitedError, match="no wings"):
        list(export(["unsuited"], drawn_run, {}, tmp_path))


def test_among_others_it_is_a_line(birds, drawn_run, tmp_path):
    told = list(export(["unsuited", "suited"], drawn_run, {}, tmp_path))
    assert told == [
        "left out unsuited: recording drawn: it has no wings",
        f"wrote {tmp_path / 'wings'}",
        "suited: two of them",
    ]


def test_an_unknown_name_tells_the_known_ones(birds):
    with pytest.raises(ConfigError, match="'fish'; use absent, suited, unsuited"):
        exporter("fish")


def test_one_that_cannot_be_loaded_tells_what_to_install(birds):
    with pytest.raises(ConfigError, match=r"'absent' cannot be used here .*no.*fusion-stack\[replay\]"):
        exporter("absent")


def test_every_declared_exporter_can_be_loaded():
    names = [point.name for point in registry.entry_points(group=registry.GROUP)]
    assert registry.SCENE in names
    assert all(callable(exporter(name)) for name in names)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "{recording}", "--export", "fish", "--out", "{new}"], 2, "'fish'"),
        (["export", "{out}", "--as", "fish"], 2, "'fish'"),
        (["export", "{out}", "--as", " , "], 2, "--as names nothing"),
        (["export", "{new}", "--as", "rerun"], 3, "no run.json"),
    ],
)
def test_a_user_error_is_one_line_with_its_code(short_run, tmp_path, capsys, arguments, code, words):
    out, recording = short_run
    filled = [a.format(out=out, recording=recording, new=tmp_path / "new") for a in arguments]
    assert main(filled) == code
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert words in told[0]
    assert not (tmp_path / "new").exists()


def test_a_run_writes_what_it_was_asked_for_and_can_be_exported_later(short_run, capsys):
    out, _ = short_run
    assert (out / "parquet" / "items.parquet").exists()
    assert not (out / "scene.rrd").exists()
    assert main(["export", str(out), "--as", "rerun"]) == 0
    assert (out / "scene.rrd").read_bytes()[:4] == b"RRF2"
    assert not list(out.rglob("*.part"))
    assert f"wrote {out / 'scene.rrd'}" in capsys.readouterr().out


def test_each_variant_of_a_run_is_exported(short_run, tmp_path, capsys):
    out, _ = short_run
    for name in ("a", "b"):
        shutil.copytree(out, tmp_path / name)
        manifest = json.loads((out / "run.json").read_text())
        manifest["variant"]["name"] = name
        (tmp_path / name / "run.json").write_text(json.dumps(manifest))
    assert main(["export", str(tmp_path), "--as", "rerun"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line for line in told if line.startswith("wrote")] == [
        f"wrote {tmp_path / name / 'scene.rrd'}" for name in ("a", "b")
    ]
    scenes = [RrdReader(tmp_path / name / "scene.rrd").recordings() for name in ("a", "b")]
    assert len({entry.recording_id for entries in scenes for entry in entries}) == 2
