"""Real processes, really killed: nothing lost, nothing twice, and ids that are not born anew."""

import json
import sqlite3
import time
from pathlib import Path

import pytest

from fusion.recording.base import open_recording
from fusion.task import Task
from replay.live.demo import CLOUD_TOML, EDGE_TOML, bundled_recording
from replay.live.processes import Node, daemon, start
from replay.results.gather import Source, gather
from replay.results.rivals import RivalBytes
from replay.results.summary import summarize
from replay.running.folder import LEDGER_NAME, SPOOL_NAME

from ..ports import free_address


def write_configs(out: Path, address: str) -> None:
    (out / "cloud.toml").write_text(
        CLOUD_TOML.format(task="yard", ledger=out / LEDGER_NAME).replace("127.0.0.1:0", address)
    )
    edge = EDGE_TOML.format(
        device="cart-1", task="yard", recording=bundled_recording("yard"), pace=json.dumps("flat-out"),
        spool=out / SPOOL_NAME, address=address,
    )  # fmt: skip
    (out / "edge.toml").write_text(edge + "backoff_max_s = 1.0\n\n[drain]\nanswers_s = 60.0\n")


def cloud(out: Path) -> Node:
    return start("cloud_node.cli", ["serve", "--config", str(out / "cloud.toml")], out / "cloud.log")


def edge(out: Path) -> Node:
    return daemon(out / "edge.toml", out / "edge.log", out / "edge.json")


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return db.execute(query).fetchall()
        finally:
            db.close()
    except sqlite3.OperationalError:
        return []


def wait_until(out: Path, query: str, at_least: int, node: Node, database: str = SPOOL_NAME) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends and node.running:
        found = rows(out / database, query)
        if found and int(str(found[0][0])) >= at_least:
            return
        time.sleep(0.02)


@pytest.mark.timeout(280)
def test_both_nodes_killed_in_the_middle_lose_and_repeat_nothing(tmp_path: Path) -> None:
    write_configs(tmp_path, free_address())
    service, device = cloud(tmp_path), edge(tmp_path)
    try:
        epochs = set()
        for samples in (15, 40):
            wait_until(tmp_path, "SELECT count(*) FROM samples", samples, device)
            device.kill()
            epochs.add(rows(tmp_path / SPOOL_NAME, "SELECT value FROM meta WHERE key = 'epoch'")[0])
            device = edge(tmp_path)
        wait_until(tmp_path, "SELECT count(*) FROM outcomes", 3, device, LEDGER_NAME)
        service.kill()
        service = cloud(tmp_path)
        assert device.process.wait(120) == 0, device.last_words()
    finally:
        device.kill()
        service.stop()
    task = Task.load("yard")
    recording = bundled_recording("yard")
    spool, ledger = tmp_path / SPOOL_NAME, tmp_path / LEDGER_NAME
    found = gather(task, Source("yard", str(recording)), spool, ledger, open_recording(recording, task))
    summary = summarize(task, [found], RivalBytes())
    assert summary["lost"] == summary["duplicates"] == 0
    assert len(epochs) == 1
    frames = open_recording(recording, task).info().sensors["front"].count
    cursors = [row[0] for row in rows(spool, "SELECT cursor FROM samples ORDER BY sequence")]
    assert len(cursors) == len(set(cursors)) == frames - int(str(summary["gaps"]))
    assert [row[0] for row in rows(spool, "SELECT sequence FROM samples ORDER BY sequence")] == list(
        range(1, len(cursors) + 1)
    )
    reviewed = rows(spool, "SELECT count(*) FROM items WHERE state = 'reviewed'")[0][0]
    assert reviewed == rows(ledger, "SELECT count(*) FROM outcomes WHERE state = 'reviewed'")[0][0]
    assert int(str(reviewed)) > 0


def test_a_cloud_that_is_not_there_is_one_line_and_the_spool_stays_whole(tmp_path: Path) -> None:
    write_configs(tmp_path, free_address())
    text = (tmp_path / "edge.toml").read_text().replace("answers_s = 60.0", "answers_s = 2.0")
    (tmp_path / "edge.toml").write_text(text)
    device = edge(tmp_path)
    assert device.process.wait(120) == 5
    assert "Traceback" not in device.log.read_text()
    assert "stay in" in device.last_words()
    waiting = rows(tmp_path / SPOOL_NAME, "SELECT count(*) FROM outbox")[0][0]
    assert int(str(waiting)) > 0
    assert rows(tmp_path / SPOOL_NAME, "PRAGMA integrity_check") == [("ok",)]


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    import socket
    import subprocess
    import sys

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        write_configs(tmp_path, f"127.0.0.1:{taken.getsockname()[1]}")
        done = subprocess.run(
            [sys.executable, "-m", "cloud_node.cli", "serve", "--config", str(tmp_path / "cloud.toml")],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 5
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()[-1]) > 10
