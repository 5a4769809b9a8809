"""`--out` on an object store: the run is copied there whole, without locks and journals, and results come last."""

from pathlib import Path

import fsspec
import pytest

from fusion.errors import ConfigError, UnavailableError
from replay.running.destination import Destination

NAMES = ("run.json", "results.json", "report.html", "recordings/a/spool.db", "recordings/a/done.json")


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def fill(folder: Path, names=(*NAMES, ".run.lock", "recordings/a/spool.db-wal", "recordings/a/spool.db.lock")) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def test_a_folder_stays_where_it_is(tmp_path) -> None:
    here = Destination.of(str(tmp_path))
    assert here == Destination(tmp_path)
    here.upload()


def test_everything_a_person_needs_is_copied(cache) -> None:
    there = Destination.of("memory://bucket/run-1/")
    assert there.folder.is_relative_to(cache)
    assert Destination.of("memory://bucket/run-1").folder == there.folder
    assert Destination.of("memory://bucket/run-2").folder != there.folder
    fill(there.folder)
    there.upload()
    store = fsspec.filesystem("memory")
    found = {path.removeprefix("/bucket/run-1/"): store.cat_file(path).decode() for path in store.find("/bucket/run-1")}
    assert found == {name: name for name in NAMES}


def test_results_come_last(cache, monkeypatch) -> None:
    there, order = Destination.of("memory://bucket/run-3"), []
    fill(there.folder)
    monkeypatch.setattr(fsspec.filesystem("memory"), "put_file", lambda here, there: order.append(there))
    there.upload()
    assert [name.rpartition("/")[2] for name in order[-2:]] == ["results.json", "run.json"]
    assert len(order) == len(NAMES)


def test_a_store_that_is_not_there_is_one_line(cache, monkeypatch) -> None:
    there = Destination.of("memory://bucket/run-4")
    fill(there.folder)

    def refuse(here: str, there: str) -> None:
        raise OSError(f"{there}: access\ndenied")

    monkeypatch.setattr(fsspec.filesystem("memory"), "put_file", refuse)
    with pytest.raises(UnavailableError, match=r"memory://bucket/run-4/.*access denied.*same command") as told:
        there.upload()
    assert "\n" not in str(told.value)


def test_an_unknown_protocol_is_one_line_before_anything_is_run(cache) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        Destination.of("nowhere://bucket/run")
