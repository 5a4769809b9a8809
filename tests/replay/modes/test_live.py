"""A real daemon against a real service: the same verdicts as in one process, and nothing dropped without a word."""

import sqlite3

import pytest

from replay.live.demo import CLOUD_TOML
from replay.live.processes import service
from replay.running.folder import SPOOL_NAME

from ...ports import free_address

ROUNDED = 2e-6
"""A ledger keeps probabilities as they were computed, a spool six digits of them; both take different batches."""


def configured(folder, address):
    """Where a service that is not started yet is told where to listen."""
    config = folder / "cloud.toml"
    config.write_text(CLOUD_TOML.format(task="yard", ledger=folder / "ledger.db").replace("127.0.0.1:0", address))
    return config


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    """The address of a running service."""
    folder = tmp_path_factory.mktemp("service")
    with service(configured(folder, "127.0.0.1:0"), folder / "cloud.log") as (_, address):
        yield address


def same(mine, other):
    """Whether two items are the same but for the last digits of probabilities."""
    plain = [{key: value for key, value in item.items() if key != "verdict"} for item in (mine, other)]
    said = [{name: answer["option"] for name, answer in item["verdict"].items()} for item in (mine, other)]
    pairs = [
        (p, other["verdict"][name]["probabilities"][option])
        for name, answer in mine["verdict"].items()
        for option, p in answer["probabilities"].items()
    ]
    return plain[0] == plain[1] and said[0] == said[1] and all(abs(p - q) <= ROUNDED for p, q in pairs)


def numbers(results, *, without_audit=False):
    """Items by sequence and number, as they compare when ids do not."""
    return {
        (item["sequence"], item["id"].partition("#")[2]): (item["state"], {n: a["option"] for n, a in item["verdict"].items()})
        for item in results["items"]
        if not (without_audit and item["reasons"] in ([], ["audit"]))
    }  # fmt: skip


def test_a_perfect_link_gives_the_verdicts_of_one_process_id_by_id(ways, recording, both, serving, tmp_path, capsys):
    assert ways.run(recording, "--live", serving, "--pace", 50, "--out", tmp_path) == 0
    live, together = ways.read(tmp_path), ways.read(both)
    assert [item["id"] for item in live["items"]] == [item["id"] for item in together["items"]]
    assert all(map(same, live["items"], together["items"]))
    assert {k: v for k, v in live.items() if k not in ("items", "sha256")} == {
        k: v for k, v in together.items() if k not in ("items", "sha256")
    }
    summary = ways.read(tmp_path, "summary.json")
    assert summary["lost"] == summary["duplicates"] == summary["waiting"] == summary["gaps"] == 0
    assert summary["gap_reasons"] == "none"
    assert summary["lag_ms_p99"] >= summary["lag_ms_p50"] >= 0
    assert summary["would_drop"] <= summary["samples"]
    assert ways.read(tmp_path, "run.json")["mode"] == "live"
    assert not (tmp_path / "recordings" / "second" / "ledger.db").exists()
    assert f"service at {serving}: serving" in capsys.readouterr().out
    assert '<li class="fails">' not in (tmp_path / "report.html").read_text()


def test_what_is_too_late_is_a_declared_gap_and_known_ids_are_not_used_again(
    ways, recording, both, serving, tmp_path, capsys
):
    """The service has answered the test before; alone it has not, and the ids are those of one process."""
    late = ["--pace", 1000, "--set", "edge.source.drop_late_s=0.001"]
    assert ways.run(recording, "--live", serving, *late, "--out", tmp_path / "out") == 0
    assert "the service has answered its items before" in capsys.readouterr().out
    summary, whole = ways.read(tmp_path / "out", "summary.json"), ways.read(both, "summary.json")
    assert summary["samples"] + summary["gaps"] == whole["samples"]
    assert summary["gaps"] > 0
    assert summary["gap_reasons"] == f"{summary['gaps']} more than 0.001 s behind"
    ids = [{item["id"].split("/")[1] for item in ways.read(place)["items"]} for place in (both, tmp_path / "out")]
    assert ids[0].isdisjoint(ids[1])


def test_a_service_that_is_away_is_waited_for_then_told_and_the_folder_goes_on(ways, recording, both, tmp_path, capsys):
    address = free_address()
    run = [recording, "--live", address, "--pace", "flat-out", "--set", "edge.drain.answers_s=0.5",
           "--out", tmp_path / "out"]  # fmt: skip
    assert ways.run(*run) == 5
    told = capsys.readouterr()
    assert "the service cannot be asked" in told.out
    assert f"{address}: no answer for 0.5 s (connection refused)" in told.err.splitlines()[-1]
    assert not (tmp_path / "out" / "results.json").exists()
    spool = tmp_path / "out" / "recordings" / "second" / SPOOL_NAME
    with sqlite3.connect(spool) as db:
        epoch = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0]
        samples = db.execute("SELECT count(*) FROM samples").fetchone()[0]
    db.close()
    with service(configured(tmp_path, address), tmp_path / "cloud.log"):
        assert ways.run(*run) == 0
    results = ways.read(tmp_path / "out")
    assert {item["id"].split("/")[1] for item in results["items"]} == {epoch}
    assert samples == results["recordings"][0]["samples"] == ways.read(both)["recordings"][0]["samples"]
    ours, theirs = numbers(results, without_audit=True), numbers(ways.read(both), without_audit=True)
    assert ours == theirs
    assert ways.read(tmp_path / "out", "summary.json")["lost"] == 0
