"""Names that no file here can have: a path with one is refused, a place elsewhere may have them."""

import json

import pytest

from fusion.errors import InputError
from replay.cli import main
from replay.sources.cache import Cache

LONG = "x" * 300


@pytest.fixture
def run(tmp_path):
    """Runs a source behind an address; the exit code."""
    words = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--no-scene"]
    return lambda *sources: main(["run", *sources, *words])


@pytest.mark.parametrize(
    "words",
    [
        ["run", f"{LONG}.mcap"],
        ["run", f"/tmp/{LONG}/*.mcap"],
        ["run", f"file:///tmp/{LONG}.mcap"],
        ["run", f"a/b/{'c/' * 3000}{LONG}"],
        ["run", LONG, "--cloud-only"],
        ["run", "a.mcap", "--task", LONG],
        ["run", "a.mcap", "--out", LONG],
        ["compare", LONG, LONG],
        ["export", LONG, "--as", "coco"],
    ],
)
def test_a_path_is_refused_in_one_line(words, made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "a.mcap")
    assert main(words) == 3
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert LONG in told
    assert "defect" not in told


def test_a_web_address_may_go_on_for_long_after_the_name(web, made, run, tmp_path):
    made(web.folder / "yard.mcap")
    assert run(f"{web.url}/yard.mcap?signature={LONG}") == 0
    (copy,) = (tmp_path / "cache").glob("*/*")
    assert copy.name == "yard.mcap"


def test_a_store_may_have_longer_names(memory, made, run, tmp_path):
    sources = [f"memory:///fleet/{LONG}{end}.mcap" for end in "ab"]
    for seed, source in enumerate(sources):
        memory.pipe(source, made(tmp_path / "here.mcap", seed=seed).read_bytes())
    assert run(*sources) == 0
    recordings = json.loads((tmp_path / "out/results.json").read_text())["recordings"]
    assert [one["source"] for one in recordings] == [f"{LONG}{end}.mcap" for end in "ab"]
    assert len({one["name"] for one in recordings}) == 2
    assert {path.suffix for path in (tmp_path / "cache").glob("*/*")} == {".mcap"}


def test_long_names_in_a_folder_there_stay_apart(memory, tmp_path):
    names = [f"{LONG}/{LONG}{end}" for end in ("a.png", "b.png", "\N{GREEK SMALL LETTER ALPHA}" * 99, ".x" + LONG)]
    for name in names:
        memory.pipe(f"/drive/{name}", name.encode())
    held = Cache(tmp_path / "cache", 1_000_000).hold("memory://drive")
    copies = [path for path in held.path.rglob("*") if path.is_file()]
    assert sorted(path.read_text() for path in copies) == sorted(names)
    assert len({path.parent for path in copies}) == 1


def test_a_cache_that_cannot_be_written_is_not_a_place_that_cannot_be_reached(memory, tmp_path):
    deep = tmp_path / "/".join(["x" * 200] * 18)
    memory.pipe(f"/drive/{LONG}/{LONG}/a", b"content")
    with pytest.raises(InputError, match="the cache cannot be written"):
        Cache(deep, 1_000_000).hold("memory://drive")
