"""A broken recording does not stop the others: what came of each is in the files, and the exit code says which kind."""

import json

import pytest

from replay.cli import main


@pytest.fixture(scope="module")
def sources(cut, tmp_path_factory):
    """A sound recording of a fifth of a second, and the same length of another moment cut off at its end."""
    folder = tmp_path_factory.mktemp("broken")
    cut(folder / "sound.mcap", 1.0, 1.25)
    broken = cut(folder / "broken.mcap", 2.0, 2.25)
    broken.write_bytes(broken.read_bytes()[:-60])
    return folder


def run(sources, *words):
    return main(["run", str(sources), "--out", str(sources / "out"), "--no-scene", *words])


def read(sources, name):
    return json.loads((sources / "out" / name).read_text())


@pytest.fixture(scope="module")
def refused(sources):
    return run(sources)


def test_the_others_are_run_and_the_broken_one_is_told(sources, refused):
    assert refused == 9
    assert [one["name"] for one in read(sources, "results.json")["recordings"]] == ["sound"]
    assert read(sources, "summary.json")["samples"] > 0
    (failure,) = read(sources, "failures.json")
    assert failure["name"] == "broken"
    assert failure["exit_code"] == 3
    assert f"{sources}/broken.mcap: damaged at byte " in failure["error"]


def test_all_broken_is_that_error(sources, capsys):
    assert main(["run", str(sources / "broken.mcap"), "--out", str(sources / "out2"), "--no-scene"]) == 3
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith(f"replay: {sources}/broken.mcap: damaged at byte ")


def test_salvaged_it_is_run_and_the_code_says_so(sources, refused, capsys):
    assert run(sources, "--salvage") == 8
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith(
        f"replay: 1 of 2 recordings are damaged; what is sound was run: broken: {sources}/broken.mcap: "
    )
    found = {one["name"]: one for one in read(sources, "results.json")["recordings"]}
    assert found["broken"]["samples"] > 0
    assert found["broken"]["damage"].startswith("broken.mcap: damaged at byte "), "the folder does not matter"
    assert found["sound"]["damage"] == ""
    assert read(sources, "summary.json")["damaged"] == 1
    assert not (sources / "out/failures.json").exists()
