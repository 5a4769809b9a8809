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


@pytest.mark.parametrize("place", ["memory://bucket/run-5", "file://{tmp}/there"])
def test_what_a_rerun_took_away_here_is_taken_away_there(cache, place) -> None:
    there = Destination.of(place.format(tmp=cache))
    gone = ("failures.json", "recordings/a/facts.json", "recordings/a/ledger.db", "recordings/a/evidence.mcap")
    others = ("mine.txt", "recordings/b/ledger.db", "recordings/a/mine.txt")
    fill(there.folder, (*NAMES, *gone))
    there.upload()
    store, root = fsspec.core.url_to_fs(there.url)
    for name in others:
        store.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        store.pipe_file(f"{root}/{name}", b"")
    for name in gone:
        (there.folder / name).unlink()
    there.upload()
    assert {path.removeprefix(f"{root}/") for path in store.find(root)} == {*NAMES, *others}


def test_a_run_that_failed_in_part_and_then_not_leaves_no_failures_there(cache, parts, fixed, replay_run) -> None:
    broken = cache / "broken.mcap"
    broken.write_bytes(parts[1].read_bytes()[:-60])
    store = fsspec.filesystem("memory")
    assert replay_run([parts[0], broken], "memory://bucket/run-6", *fixed) == 9
    assert store.exists("/bucket/run-6/failures.json")
    broken.write_bytes(parts[1].read_bytes())
    assert replay_run([parts[0], broken], "memory://bucket/run-6", *fixed) == 0
    assert not store.exists("/bucket/run-6/failures.json")
    assert store.exists("/bucket/run-6/results.json")


def test_a_store_that_is_not_there_is_one_line(cache, monkeypatch) -> None:
    there = Destination.of("memory://bucket/run-4")
    fill(there.folder)

    def refuse(here: str, there: str) -> None:
        raise OSError(f"{there}: access\ndenied")

    monkeypatch.setattr(fsspec.filesystem("memory"), "put_file", refuse)
    with pytest.raises(UnavailableError, match=r"memory://bucket/run-4/.*access denied.*same command") as told:
        there.upload()
    assert "\n" not in str(told.value)


def test_a_store_that_lets_nothing_be_removed_is_one_line(cache, monkeypatch) -> None:
    there = Destination.of("memory://bucket/run-7")
    fill(there.folder, (*NAMES, "failures.json"))
    there.upload()
    (there.folder / "failures.json").unlink()

    def refuse(there: str) -> None:
        raise PermissionError(f"{there}: access\ndenied")

    monkeypatch.setattr(fsspec.filesystem("memory"), "rm_file", refuse)
    with pytest.raises(UnavailableError, match=r"memory://bucket/run-7/failures.json: cannot be removed \(.*denied"):
        there.upload()


def test_an_unknown_protocol_is_one_line_before_anything_is_run(cache) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        Destination.of("nowhere://bucket/run")
