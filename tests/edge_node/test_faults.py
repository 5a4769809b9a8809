"""The daemon as a real process, killed, restarted, drained and refused; models and recording are fakes."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import grpc.aio

from fusion.errors import OverloadedError
from fusion.types import ItemId, SlotAnswer, Verdict
from fusion.wire.channel import bind, server_options
from fusion.wire.messages import Goodbye, LedgerReport, Refusal, Submission, Welcome
from fusion.wire.service import add_review_service

from ..ports import free_address, free_port

PROGRAM = Path(__file__).parent / "programs" / "daemon_with_fakes.py"
FRAMES = 150


class Service:
    """A review service in a thread. It eats a share of its verdicts, refuses another, and keeps every blob."""

    def __init__(self, eat: float = 0.0, refuse: float = 0.0, deaf: bool = False) -> None:
        self.ledger: dict[str, bytes] = {}
        self.altered = 0
        self.received = 0
        self.reports: list = []
        self.goodbyes = 0
        self._eat, self._refuse, self._deaf = eat, refuse, deaf
        self._draw = random.Random(5)

    async def exchange(self, messages, send, peer) -> None:
        await anext(messages)
        await send(Welcome(("*",), 16))
        async for message in messages:
            if isinstance(message, Submission) and not self._deaf:
                await self._review(message, send)
            elif isinstance(message, LedgerReport):
                self.reports.append(message.counts)
            elif isinstance(message, Goodbye):
                self.goodbyes += 1
                return

    async def _review(self, message: Submission, send) -> None:
        name = str(message.item)
        self.received += 1
        chance = self._draw.random()
        if name not in self.ledger and chance < self._refuse:
            await send(Refusal(message.item, OverloadedError("full", retry_after_s=0.01), 0.01))
            return
        known = self.ledger.setdefault(name, message.blob)
        self.altered += known != message.blob
        if chance >= self._eat:
            await send(_verdict(message.item))

    async def review_item(self, submission, peer):
        raise NotImplementedError


def _verdict(item: ItemId) -> Verdict:
    return Verdict(item, {"object": SlotAnswer("drum", {"drum": 1.0})}, False, ("maps",), "fake:yard", "0" * 64)


@contextmanager
def serving(service: Service, port: int = 0):
    """`service` on a port of this host, in a thread of its own."""
    started, box = threading.Event(), {}

    async def main() -> None:
        server = grpc.aio.server(options=server_options())
        box["port"] = bind(server, f"127.0.0.1:{port or free_port()}")
        add_review_service(server, service)
        await server.start()
        box["loop"], box["stop"] = asyncio.get_running_loop(), asyncio.Event()
        started.set()
        await box["stop"].wait()
        await server.stop(None)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert started.wait(10)
        yield f"127.0.0.1:{box['port']}"
    finally:
        box["loop"].call_soon_threadsafe(box["stop"].set)
        thread.join()


class Device:
    """One device's folder and the processes started on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.config = folder / "edge.toml"
        self.spool = folder / "spool.db"
        self.config.write_text(
            f'device = "cart-1"\ntask = "yard"\n[source]\npath = "unused"\n[spool]\npath = "{self.spool}"\n'
            "keep_free_bytes = 0\n[screening]\naudit_rate = 0.0\nonset_s = 0.0\nrepeat_s = 0.5\n"
            "[uplink]\nack_timeout_s = 0.5\nbackoff_first_s = 0.05\nbackoff_max_s = 0.1\n"
        )

    def start(self, *overrides: str, frames: int = FRAMES, ms: float = 0.0, **more) -> subprocess.Popen:
        command = [
            sys.executable,
            str(PROGRAM),
            str(frames),
            str(ms),
            str(self.config),
            str(self.folder / "summary.json"),
        ]
        return subprocess.Popen(
            [*command, *overrides], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
        )

    def finish(self, *overrides: str, frames: int = FRAMES, ms: float = 0.0) -> tuple[int, str]:
        process = self.start(*overrides, frames=frames, ms=ms)
        _, errors = process.communicate(timeout=200)
        return process.returncode, errors

    def query(self, sql: str) -> list:
        db = sqlite3.connect(self.spool)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    @property
    def summary(self) -> dict:
        return json.loads((self.folder / "summary.json").read_text())

    def story(self) -> list:
        """Everything decided, with the epoch's random part taken out of ids."""
        items = self.query(
            "SELECT sequence, item, track, label, score, reasons, state, into_item FROM items ORDER BY sequence, item"
        )
        short = [(*row[:-1], row[-1] and row[-1].split("/")[2]) for row in items]
        return [self.query("SELECT sequence, cursor, time_ns FROM samples ORDER BY sequence"), short]


def test_killed_again_and_again_it_goes_on_as_if_nothing_had_happened(tmp_path):
    """Would fail if ids were born anew, if the cursor ran ahead of the commit, or if tracks were forgotten."""
    with serving(Service()) as address:
        calm = Device(tmp_path / "calm")
        code, errors = calm.finish(f"uplink.address={address}")
        assert code == 0, errors
    service, kills, draw = Service(eat=0.2, refuse=0.2), 0, random.Random(11)
    with serving(service) as address:
        device = Device(tmp_path / "killed")
        while True:
            process = device.start(f"uplink.address={address}", ms=10)
            assert process.stdout.readline().startswith("ready")
            try:
                _, errors = process.communicate(timeout=draw.uniform(0.0, 0.2) if kills < 6 else 200)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                kills += 1
                continue
            assert process.returncode == 0, errors
            break
    assert kills == 6
    assert device.story() == calm.story()
    summary = device.summary
    assert summary["samples"] == FRAMES == calm.summary["samples"]
    assert summary["reviewed"] == len(service.ledger) > 20
    assert summary["pending"] == summary["gaps"] == 0
    assert service.altered == 0
    assert service.received > len(service.ledger)  # something was really sent twice
    assert (
        sum(summary[s] for s in ("passed", "reviewed", "deduplicated", "shed", "expired", "quarantined"))
        == summary["items"]
    )
    report = service.reports[-1]
    assert report.items == {s: summary[s.value] for s in report.items}


def test_a_finished_run_does_not_start_again_and_a_new_name_reads_it_again(tmp_path):
    service = Service()
    with serving(service) as address:
        device = Device(tmp_path)
        for _ in range(2):
            assert device.finish(f"uplink.address={address}", frames=20)[0] == 0
        assert device.summary["samples"] == 20
        assert device.finish(f"uplink.address={address}", "source.run=second", frames=20)[0] == 0
    assert device.summary["samples"] == 40
    tracks = device.query("SELECT run, min(track), max(track) FROM items JOIN samples USING (sequence) GROUP BY run")
    assert tracks[1][1] > tracks[0][2]
    assert len(service.ledger) == device.summary["reviewed"]


def test_a_service_that_is_not_there_costs_nothing_but_the_wait(tmp_path):
    device = Device(tmp_path)
    code, errors = device.finish("uplink.address=127.0.0.1:1", "drain.answers_s=0.5")
    assert code == 5
    lines = errors.strip().splitlines()
    assert len(lines) == 2
    assert "connection refused; screening goes on" in lines[0]
    assert "items stay in" in lines[1]
    assert "Traceback" not in errors
    waiting = device.summary["waiting"]
    assert device.summary["samples"] == FRAMES
    assert device.summary["pending"] == waiting > 0
    service = Service()
    with serving(service) as address:
        assert device.finish(f"uplink.address={address}")[0] == 0
    assert len(service.ledger) == waiting
    assert device.summary["reviewed"] == waiting


def test_sigterm_drains_and_the_next_start_goes_on(tmp_path):
    service = Service()
    with serving(service) as address:
        device = Device(tmp_path)
        process = device.start(f"uplink.address={address}", ms=20)
        process.stdout.readline()
        time.sleep(0.6)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        first = device.summary
        assert 0 < first["samples"] < FRAMES
        assert first["pending"] == 0
        assert not first["source_ended"]
        assert service.goodbyes == 1
        assert device.finish(f"uplink.address={address}")[0] == 0
    assert device.summary["samples"] == FRAMES
    assert device.query("SELECT count(DISTINCT cursor), max(cursor) FROM samples") == [(FRAMES, FRAMES)]


def test_sigterm_ends_in_time_when_no_answer_comes(tmp_path):
    with serving(Service(deaf=True)) as address:
        device = Device(tmp_path)
        process = device.start(f"uplink.address={address}", "uplink.ack_timeout_s=60", "drain.grace_s=3", ms=5)
        process.stdout.readline()
        time.sleep(0.4)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert time.monotonic() - began < 6
    assert device.summary["pending"] == device.summary["waiting"] > 0


def test_a_second_daemon_and_a_taken_port_are_one_line_each(tmp_path):
    device = Device(tmp_path)
    first = device.start("uplink.address=127.0.0.1:1", ms=50)
    first.stdout.readline()
    try:
        code, errors = device.finish()
        assert code == 7
        assert errors.count("\n") == 1
        assert "used by another edge-node" in errors
    finally:
        first.kill()
        first.communicate()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, errors = device.finish(f"metrics.listen={address}")
    assert (code, errors.count("\n")) == (5, 1)
    assert f"metrics.listen: cannot listen on {address}: address already in use" in errors


def test_metrics_and_health_tell_of_the_run(tmp_path):
    listen = free_address()
    device = Device(tmp_path)
    process = device.start("uplink.address=127.0.0.1:1", f"metrics.listen={listen}", "metrics.stalled_s=0.7", ms=20)
    try:
        process.stdout.readline()
        time.sleep(0.5)
        with urllib.request.urlopen(f"http://{listen}/healthz", timeout=5) as answer:
            health = json.load(answer)
        assert health["healthy"]
        assert health["uplink"] == "offline"
        with urllib.request.urlopen(f"http://{listen}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        numbers = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert float(numbers["fusion_edge_samples_total"]) > 3
        assert float(numbers['fusion_edge_uplink{state="offline"}']) == 1
        assert float(numbers["fusion_edge_outbox_items"]) > 0
    finally:
        process.kill()
        process.communicate()


def test_a_damaged_spool_is_met_once_and_the_run_goes_on(tmp_path):
    service = Service()
    with serving(service) as address:
        device = Device(tmp_path)
        process = device.start(f"uplink.address={address}", ms=10)
        process.stdout.readline()
        time.sleep(0.5)
        process.kill()
        process.communicate()
        ((done,),) = device.query("SELECT max(cursor) FROM samples")  # also brings the journal into the file
        with device.spool.open("r+b") as file:
            file.write(b"\xff" * 64)
        code, errors = device.finish(f"uplink.address={address}")
        assert code == 0, errors
        assert errors.count("damaged and set aside as spool.db.damaged-1") == 1
        assert device.finish(f"uplink.address={address}") == (0, _quiet(errors))
    assert done > 0
    assert device.summary["samples"] == FRAMES  # nothing could be read: the recording is read from its start
    epochs = Counter(name.split("/")[1] for name in service.ledger)
    assert len(epochs) == 2


def test_a_disk_that_refuses_ends_the_daemon_with_one_line_and_loses_nothing_that_was_committed(tmp_path):
    device = Device(tmp_path)
    limit = 300_000

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = device.start("uplink.address=127.0.0.1:1", frames=1500, preexec_fn=small_files)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 7, errors
    (line,) = [line for line in errors.splitlines() if "uplink" not in line]
    assert "spool.db: cannot be used" in line
    ((samples, last),) = device.query("SELECT count(*), max(cursor) FROM samples")
    assert 0 < samples == last < 1500
    assert device.finish("uplink.address=127.0.0.1:1", "drain.answers_s=0.2", frames=1500)[0] == 5
    assert device.summary["samples"] == 1500


def _quiet(errors: str) -> str:
    return "".join(line for line in errors.splitlines(keepends=True) if "damaged" not in line)
