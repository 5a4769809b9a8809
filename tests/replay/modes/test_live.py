"""A real daemon against a real service: the same verdicts as in one process, and nothing dropped without a word."""

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import tomllib
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import fusion
from replay.live.demo import CLOUD_TOML
from replay.live.paced import CONFIG_NAME
from replay.live.processes import service
from replay.running.folder import SPOOL_NAME

from ...ports import free_address

ROUNDED = 2e-6
"""A ledger keeps probabilities as they were computed, a spool six digits of them; both take different batches."""


@pytest.fixture(scope="module")
def away(ways, recording, tmp_path_factory):
    """A run against a service that is not there: its arguments, folder, address, exit code, and what its spool held."""
    address, out = free_address(), tmp_path_factory.mktemp("away")
    quick = ["--pace", "flat-out", "--set", "edge.drain.answers_s=2"]
    arguments = [recording, "--live", address, *quick, "--out", out]
    return SimpleNamespace(
        arguments=arguments, out=out, address=address, code=ways.run(*arguments), spool=spool_of(out)
    )


@pytest.fixture(scope="module")
def serving(away, tmp_path_factory):
    """The address, now with a service on it."""
    folder = tmp_path_factory.mktemp("service")
    config = folder / "cloud.toml"
    text = CLOUD_TOML.format(task="yard", ledger=folder / "ledger.db").replace("127.0.0.1:0", away.address)
    config.write_text(f"warm_up = false\n{text}")
    with service(config, folder / "cloud.log") as (_, address):
        yield address


@pytest.fixture(scope="module")
def live(ways, recording, serving, tmp_path_factory):
    """The folder of a run over a perfect link to a service that has not seen the recording."""
    out = tmp_path_factory.mktemp("live")
    assert ways.run(recording, "--live", serving, "--pace", 50, "--out", out) == 0
    return out


def spool_of(out):
    """Epoch, samples and waiting items of the run's spool."""
    epoch = "SELECT value FROM meta WHERE key = 'epoch'"
    with closing(sqlite3.connect(out / "recordings" / "second" / SPOOL_NAME)) as db:
        return db.execute(f"SELECT ({epoch}), (SELECT count(*) FROM samples), count(*) FROM outbox").fetchone()


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


def numbers(results):
    """What was decided, by sequence and number, as items compare when ids do not; but for what a lottery drew."""
    found = {}
    for item in results["items"]:
        if item["reasons"] not in ([], ["audit"]):
            said = {name: answer["option"] for name, answer in item["verdict"].items()}
            found[item["sequence"], item["id"].partition("#")[2]] = item["state"], said
    return found


def test_a_service_that_is_away_is_waited_for_then_told_and_the_folder_goes_on(ways, both, away, serving, capsys):
    assert away.code == 5
    epoch, samples, waiting = away.spool
    assert (samples, waiting > 0) == (ways.read(both, "summary.json")["samples"], True)
    assert not (away.out / "results.json").exists()
    log = (away.out / "recordings" / "second" / "edge.log").read_text()
    assert f"{away.address}: no answer for 2 s (connection refused); {waiting} items stay in" in log
    codes = [ways.run(*away.arguments)]
    assert capsys.readouterr().out.startswith(f"second: service at {serving}: serving")
    while codes[-1] == 5 and len(codes) < 5:  # a busy machine may not answer all of it in two seconds
        codes.append(ways.run(*away.arguments))
    assert codes[-1] == 0
    assert spool_of(away.out) == (epoch, samples, 0)
    results = ways.read(away.out)
    assert {item["id"].split("/")[1] for item in results["items"]} == {epoch}
    assert numbers(results) == numbers(ways.read(both))
    assert ways.read(away.out, "summary.json")["lost"] == 0


def test_a_perfect_link_gives_the_verdicts_of_one_process_id_by_id(ways, both, live):
    found, together = ways.read(live), ways.read(both)
    assert [item["id"] for item in found["items"]] == [item["id"] for item in together["items"]]
    assert all(map(same, found["items"], together["items"]))
    assert {k: v for k, v in found.items() if k not in ("items", "sha256")} == {
        k: v for k, v in together.items() if k not in ("items", "sha256")
    }
    summary = ways.read(live, "summary.json")
    assert summary["lost"] == summary["duplicates"] == summary["waiting"] == summary["gaps"] == 0
    assert summary["gap_reasons"] == "none"
    assert summary["lag_ms_p99"] >= summary["lag_ms_p50"] >= 0
    assert summary["would_drop"] <= summary["samples"]
    assert ways.read(live, "run.json")["mode"] == "live"
    assert not (live / "recordings" / "second" / "ledger.db").exists()
    assert '<li class="fails">' not in (live / "report.html").read_text()


def test_what_is_too_late_is_a_declared_gap_and_known_ids_are_not_used_again(
    ways, recording, both, live, serving, tmp_path, capsys
):
    late = ["--pace", 1000, "--set", "edge.source.drop_late_s=0.001"]
    assert ways.run(recording, "--live", serving, *late, "--out", tmp_path) == 0
    assert "the service has answered its items before" in capsys.readouterr().out
    summary, whole = ways.read(tmp_path, "summary.json"), ways.read(both, "summary.json")
    assert summary["samples"] + summary["gaps"] == whole["samples"]
    assert summary["gaps"] > 0
    assert summary["gap_reasons"] == f"{summary['gaps']} more than 0.001 s behind"
    ids = [{item["id"].split("/")[1] for item in ways.read(place)["items"]} for place in (live, tmp_path)]
    assert ids[0].isdisjoint(ids[1])


def test_the_daemon_gets_a_users_own_task(ways, cut, tmp_path):
    """Would fail if it got the task's name, by which it finds the bundled one, or none."""
    task = shutil.copy(Path(fusion.__file__).parent / "tasks" / "yard.toml", tmp_path / "mine.toml")
    quick = ["--pace", "flat-out", "--set", "edge.drain.answers_s=1", "--task", task]
    recording = cut(tmp_path / "short.mcap", 1, 1.3)
    assert ways.run(recording, "--live", free_address(), *quick, "--out", tmp_path / "out") == 5
    config = tmp_path / "out" / "recordings" / "short" / CONFIG_NAME
    assert tomllib.loads(config.read_text())["task"] == str(task)


def test_a_recording_that_cannot_be_read_does_not_keep_the_others_from_their_report(
    ways, recording, serving, tmp_path, capsys
):
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(recording.read_bytes()[:2000])
    quick = ["--pace", "flat-out", "--out", tmp_path / "out"]
    assert ways.run(broken, recording, "--live", serving, *quick) == 9
    assert f"1 of 2 recordings could not be run: broken: {broken}" in capsys.readouterr().err
    assert [one["name"] for one in ways.read(tmp_path / "out")["recordings"]] == ["second"]
    assert ways.read(tmp_path / "out", "summary.json")["gap_reasons"] == "none"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_daemon_does_not_outlive_the_run_whose_worker_started_it(how, recording, tmp_path):
    command = [sys.executable, "-m", "replay.cli", "run", recording, "--live", free_address(), "--out", tmp_path]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([*map(str, command), "--no-scene", "--workers", "2"], stdout=log, stderr=log)

    def daemons():
        found = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        return [one for one in found if alive(one) and "edge_node.cli" in one.cmdline()]

    spool = tmp_path / "recordings" / "second" / SPOOL_NAME
    wait_for(lambda: process.poll() is not None or (daemons() and samples_of(spool) > 0))
    (daemon,) = daemons()
    process.send_signal(how)
    process.wait(60)
    try:
        wait_for(lambda: not alive(daemon))
    finally:
        if alive(daemon):
            daemon.kill()


def samples_of(spool):
    try:
        with closing(sqlite3.connect(f"file:{spool}?mode=ro", uri=True)) as db:
            return db.execute("SELECT count(*) FROM samples").fetchone()[0]
    except sqlite3.Error:
        return 0


def alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def wait_for(condition):
    ends = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.1)


def test_another_recording_in_the_place_of_one_begins_anew(ways, recording, cut, tmp_path):
    """Would fail if its samples came behind the others' in one spool."""
    there, out = Path(shutil.copy(recording, tmp_path / "second.mcap")), tmp_path / "out"
    quick = ["--pace", "flat-out", "--set", "edge.drain.answers_s=2"]
    arguments = [there, "--live", free_address(), *quick, "--out", out]
    ways.run(*arguments)
    first, samples, _ = spool_of(out)
    cut(there, 3, 3.4)
    ways.run(*arguments)
    second, fewer, _ = spool_of(out)
    assert second != first
    assert 0 < fewer < samples
