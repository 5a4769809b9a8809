"""The console script as a process: killed and started again, told to stop, and told things it cannot do."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys

import pytest

from cloud_node.ledger import SqliteLedger
from fusion.errors import UnavailableError
from fusion.types import ItemState, Verdict
from fusion.wire.messages import ClockPing, Draining, Refusal, Submission

from .node_process import ENVIRONMENT, PROGRAM, command, node


def started(tmp_path, *overrides):
    return node(tmp_path / "ledger.db", *overrides)


async def _send(stream, evidence, room):
    with contextlib.suppress(UnavailableError):  # the process was killed
        for one in evidence:
            await room.acquire()
            await stream.send(Submission.of(one))


async def _one_life(stream, wanted, answers, kill, stop_after):
    """Send what has no answer, few at a time; kill the service after so many answers."""
    room, got = asyncio.Semaphore(16), 0
    sender = asyncio.create_task(_send(stream, [one for one in wanted.values() if one.item not in answers], room))
    with contextlib.suppress(UnavailableError):
        while len(answers) < len(wanted):
            answer = await stream.receive()
            assert isinstance(answer, Verdict)
            assert answers.setdefault(answer.item, answer) == answer
            got += 1
            if got == stop_after:
                kill()
            room.release()
    sender.cancel()
    stream.cancel()


def test_nothing_is_lost_or_doubled_by_kill_9(tmp_path, make_evidence, connect):
    wanted = {one.item: one for one in (make_evidence(n) for n in range(1, 301))}
    dice = random.Random(5)
    answers = {}

    async def run():
        for stop_after in (*(dice.randint(20, 80) for _ in range(3)), None):
            async with started(tmp_path, "batch.items=4") as (process, client):
                assert len(answers) < len(wanted), "every life was to end too early"
                stream, _ = await connect(client)
                await _one_life(stream, wanted, answers, process.kill, stop_after)

    asyncio.run(run())
    assert set(answers) == set(wanted)
    stored = list(SqliteLedger.open_reader(tmp_path / "ledger.db").outcomes())
    assert sorted(outcome.item for outcome in stored) == sorted(wanted)
    for outcome in stored:
        said = {name: answer.option for name, answer in answers[outcome.item].slots.items()}
        assert {name: answer.option for name, answer in outcome.verdict.slots.items()} == said


def test_sigterm_answers_what_it_has_and_ends_in_order(tmp_path, make_evidence, connect):
    async def run():
        async with started(tmp_path, "batch.max_delay_ms=1500") as (process, client):
            stream, _ = await connect(client)
            for n in range(1, 21):
                await stream.send(Submission.of(make_evidence(n)))
            await stream.send(ClockPing(1))
            messages = [await stream.receive()]
            process.send_signal(signal.SIGTERM)
            while (message := await stream.receive()) is not None:
                messages.append(message)
                if message == Draining():
                    await stream.send(Submission.of(make_evidence(99)))
            assert await asyncio.wait_for(process.wait(), 60) == 0
            return messages

    messages = asyncio.run(run())
    assert messages.count(Draining()) == 1
    assert len([m for m in messages if isinstance(m, Verdict)]) == 20
    (refusal,) = [m for m in messages if isinstance(m, Refusal)]
    assert refusal.item.sample.sequence == 99
    assert refusal.retriable
    assert SqliteLedger.open_reader(tmp_path / "ledger.db").counts() == {ItemState.REVIEWED: 20}


HANGING = """
import sys, threading
from cloud_node.cli import main
from fusion.review.fixed import FixedReviewer

FixedReviewer.score = lambda self, batch: print("hangs", flush=True) or threading.Event().wait()
sys.exit(main(sys.argv[1:]))
"""


def test_sigterm_ends_a_service_whose_reviewer_hangs(tmp_path, make_evidence, connect):
    async def run():
        overrides = ("warm_up=false", "drain_seconds=0.2")
        async with node(tmp_path / "ledger.db", *overrides, program=(sys.executable, "-c", HANGING)) as (
            process,
            client,
        ):
            stream, _ = await connect(client)
            await stream.send(Submission.of(make_evidence(1)))
            assert await process.stdout.readline() == b"hangs\n"
            process.send_signal(signal.SIGTERM)
            assert await stream.receive() == Draining()
            assert await stream.receive() is None
            assert await asyncio.wait_for(process.wait(), 30) == 0
            assert (await process.stderr.read()).decode() == ""

    asyncio.run(run())
    assert not (tmp_path / "ledger.db-wal").exists(), "the ledger was not closed"
    assert SqliteLedger.open_reader(tmp_path / "ledger.db").counts() == {}


def test_help_is_quick():
    before = os.times()
    done = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    after = os.times()
    assert "serve" in done.stdout
    assert after.children_user + after.children_system - before.children_user - before.children_system < 1.0


def refused(*arguments, cwd=None):
    """Run to its end: the exit code and the one line on stderr."""
    done = subprocess.run(
        list(arguments), capture_output=True, text=True, check=False, timeout=180, env=ENVIRONMENT, cwd=cwd
    )
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("cloud-node: ")
    return done.returncode, lines[0]


def test_a_port_in_use(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, line = refused(*command(tmp_path / "ledger.db", f"listen=127.0.0.1:{port}"))
        assert (code, f"127.0.0.1:{port}" in line) == (5, True)
        code, line = refused(*command(tmp_path / "ledger.db", f"metrics=127.0.0.1:{port}"))
        assert (code, "metrics" in line) == (5, True)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("listen = '127.0.0.1:0'\n\n[queue]\nitmes = 5\n", 2, ["cloud.toml:4", "queue.itmes", "items"]),
        ("reviewers = ['mini:nowhere/to/be/found']\nlisten = '127.0.0.1:0'\n", 4, ["nowhere/to/be/found"]),
        ("reviewers = ['oracle:yard']\nlisten = '127.0.0.1:0'\n", 2, ["oracle", "fixed"]),
        ("reviewers = ['fixed:mars']\nlisten = '127.0.0.1:0'\n", 2, ["mars", "yard"]),
        ("reviewers = ['fixed:yard']\nlisten = '127.0.0.1:0'\nledger = 'cloud.toml'\n", 7, ["cloud.toml"]),
        ("reviewers = ['fixed:yard']\nlisten = '127.0.0.1:0'\nledger = 'tape:x'\n", 2, ["tape", "sqlite"]),
        ("listen = '127.0.0.1:0'\n[tls]\ncertificate = 'a.pem'\nkey = 'b.pem'\n", 2, ["a.pem"]),
    ],
)
def test_what_it_cannot_do_is_one_line(tmp_path, text, code, words):
    (tmp_path / "cloud.toml").write_text(text)
    got, line = refused(PROGRAM, "serve", "--config", "cloud.toml", cwd=tmp_path)
    assert got == code
    for word in words:
        assert word in line


def test_check_says_what_would_be_served(tmp_path):
    (tmp_path / "cloud.toml").write_text("reviewers = ['fixed:yard', 'fixed:pcb']\n")
    done = subprocess.run(
        [PROGRAM, "check", "--config", "cloud.toml"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "fixed:pcb" in done.stdout
    assert not (tmp_path / "ledger.db").exists()
    code, line = refused(PROGRAM, "check", "--set", "threads=0")
    assert (code, "threads" in line) == (2, True)


def test_two_services_do_not_share_a_ledger(tmp_path):
    async def run():
        async with started(tmp_path):
            return await asyncio.to_thread(refused, *command(tmp_path / "ledger.db"))

    code, line = asyncio.run(run())
    assert (code, "another service" in line) == (7, True)
