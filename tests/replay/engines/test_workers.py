"""Worker processes: the same bytes as one alone, whatever dies, whatever cannot be read, and whenever it is ended."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fusion.errors import UnavailableError
from replay import outputs
from replay.cli import main
from replay.running.workers import work
from replay.running.workers.lock import locked


def read(out: Path, name: str = "results.json"):
    return json.loads((out / name).read_text())


def ledgers(out: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("recordings/*/ledger.db")}


def done(out: Path) -> set[str]:
    return {path.parent.name for path in out.glob("recordings/*/done.json")}


def test_two_workers_write_the_bytes_of_one(parts, reference, replay_run, tmp_path, capfd) -> None:
    assert replay_run(parts, tmp_path, "--workers", "2") == 0
    assert (tmp_path / "results.json").read_bytes() == reference.results
    assert "3/3 recordings" in capfd.readouterr().err


def test_a_second_run_writes_the_bytes_of_the_first(parts, reference, replay_run, capfd) -> None:
    before = ledgers(reference.out)
    assert replay_run(parts, reference.out, "--again", "--quiet") == 0
    assert (reference.out / "results.json").read_bytes() == reference.results
    assert all(ledgers(reference.out)[name] > time_ns for name, time_ns in before.items())
    assert "recordings" not in capfd.readouterr().err


def test_a_changed_recording_alone_is_run_again_and_it_is_told_why(
    cut, parts, fixed, replay_run, tmp_path, capfd
) -> None:
    mine = [Path(tmp_path / path.name) for path in parts[:2]]
    for path, copy in zip(parts, mine, strict=False):
        copy.write_bytes(path.read_bytes())
    out = tmp_path / "out"
    assert replay_run(mine, out, *fixed) == 0
    before = ledgers(out)
    capfd.readouterr()
    cut(mine[1], 2, 2.3)
    assert replay_run(mine, out, *fixed) == 0
    told = capfd.readouterr().err
    assert "part1: run again" in told
    assert "the recording" in told
    assert "1 of 2 recordings are done already" in told
    after = ledgers(out)
    assert after["part0"] == before["part0"]
    assert after["part1"] > before["part1"]


def test_the_dead_and_the_broken_do_not_stop_the_others(parts, fixed, deadly, replay_run, tmp_path, capfd) -> None:
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(parts[1].read_bytes()[:2000])
    sources = [deadly("always", 9), broken, parts[2], deadly("once", 1)]
    assert replay_run(sources, tmp_path / "out", "--workers", "2", *fixed) == 9
    told = capfd.readouterr().err
    assert "once: its worker died (killed by SIGKILL); it is run once more" in told
    last = told.strip().splitlines()[-1]
    assert last.startswith("replay: 2 of 4 recordings could not be run: ")
    assert str(broken) in last
    assert "always.deadly: 2 workers died at it" in last
    assert [one["name"] for one in read(tmp_path / "out")["recordings"]] == ["part2", "once"]
    assert done(tmp_path / "out") == {"part2", "once"}


def test_what_is_begun_again_is_not_done_until_it_is(
    deadly, parts, fixed, replay_run, tmp_path, capfd, monkeypatch
) -> None:
    """But nothing is begun before the recording could be opened: until then what is done stays."""
    out, source = tmp_path / "out", deadly("late", 0)
    assert replay_run([source], out, *fixed) == 0
    assert done(out) == {"late"}
    source.write_text(f"9 {parts[0]}")
    assert replay_run([source], out, "--again", "--workers", "2", *fixed) == 5
    assert "killed by SIGKILL" in capfd.readouterr().err
    assert done(out) == {"late"}
    source.write_text(f"0 {parts[0]}")

    def broken_off(*_given, **_named):
        raise UnavailableError("the link broke")

    monkeypatch.setattr(work, "play", broken_off)
    assert replay_run([source], out, "--again", *fixed) == 5
    assert done(out) == set()


def test_the_only_recording_fails_with_its_own_words_and_code(parts, fixed, replay_run, tmp_path, capfd) -> None:
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(parts[1].read_bytes()[:2000])
    assert replay_run([broken], tmp_path / "out", *fixed) == 3
    told = [line for line in capfd.readouterr().err.splitlines() if "broken.mcap" in line]
    assert len(told) == 1
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_what_was_ended_goes_on_with_what_is_not_done(how, parts, fixed, replay_run, tmp_path, capfd) -> None:
    out, log = tmp_path / "out", (tmp_path / "log").open("w")
    command = [sys.executable, "-m", "replay.cli", "run", *map(str, parts), "--out", str(out), "--no-scene", *fixed]
    process = subprocess.Popen([*command, "--workers", "2"], stderr=log, stdout=log)
    wait_for(lambda: done(out) or process.poll() is not None)
    workers = psutil.Process(process.pid).children(recursive=True)
    finished, before = done(out), ledgers(out)
    process.send_signal(how)
    assert process.wait(60) == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    wait_for(lambda: not any(alive(worker) for worker in workers))
    if how == signal.SIGTERM:
        assert "the same command goes on" in (tmp_path / "log").read_text()
    assert replay_run(parts, out, *fixed) == 0
    after = ledgers(out)
    assert finished
    assert all(after[name] == before[name] for name in finished)
    again = tmp_path / "again"
    assert replay_run(parts, again, *fixed) == 0
    assert (out / "results.json").read_bytes() == (again / "results.json").read_bytes()


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def wait_for(condition) -> None:
    ends = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.02)


def test_a_folder_belongs_to_one_run_at_a_time(tmp_path) -> None:
    with locked(tmp_path), pytest.raises(UnavailableError, match=f"process {os.getpid()}") as told, locked(tmp_path, 0):
        pass
    assert str(tmp_path) in str(told.value)
    with locked(tmp_path, 0):
        pass


@pytest.mark.parametrize(
    ("words", "told"),
    [(("--workers", "0"), "--workers 0"), (("--ray-address", "auto"), "--ray-address is for --engine ray")],
)
def test_wrong_options_are_one_line(words, told, parts, replay_run, tmp_path, capfd) -> None:
    assert replay_run(parts, tmp_path, *words) == 2
    assert told in capfd.readouterr().err


def test_a_run_is_not_over_before_its_report_is_written(tmp_path, cut, monkeypatch):
    """Would fail if another run could begin in the folder while this one gathers what lies there."""
    recording, tried = cut(tmp_path / "a.mcap", 1, 1.3), []

    def told(*_given, **_named):
        with pytest.raises(UnavailableError), locked(tmp_path / "out", 0):
            pass
        tried.append(True)

    monkeypatch.setattr(outputs, "write_outputs", told)
    assert main(["run", str(recording), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert tried
