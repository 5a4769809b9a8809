"""What idle devices cost a review service: memory a stream, time to accept, and what a busy device beside them feels.

    python benchmarks/idle_streams.py --streams 10000 --out idle.json

The service is a process of its own with the fixed reviewer; clients are others, each with a share of the streams. On a
connection there are `--per-connection` streams at most (the service takes 128; 1 is as real devices come).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np

from fusion.errors import UnavailableError
from fusion.types import Box2D, DeviceOpinion, Evidence, ItemId, SampleId, SendReason, Verdict
from fusion.wire.channel import client_options
from fusion.wire.client import Exchange, ReviewClient
from fusion.wire.messages import Hello, Submission, Welcome

EPOCH, PROFILE = "0123456789abcdef", "ab" * 32
AT_ONCE = 16
SPARE_FILES = 512


def main() -> None:
    """Measure, print and perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--per-connection", type=int, default=100)
    parser.add_argument("--clients", type=int, default=4, help="processes")
    parser.add_argument("--reviews", type=int, default=1000, help="of the busy device, one after the other")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--hold", nargs=3, metavar=("ADDRESS", "FIRST", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    most = _raise_file_limit()
    if options.hold:
        address, first, count = options.hold
        asyncio.run(_hold(address, int(first), int(count), options.per_connection))
        return
    streams = min(options.streams, (most - SPARE_FILES) * options.per_connection)
    if streams < options.streams:
        print(f"{most} open files are allowed: {streams} streams instead of {options.streams}")
    told = _measure(streams, options)
    print(json.dumps(told, indent=1))
    if options.out:
        options.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _measure(streams: int, options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, _service(Path(folder), streams + 1) as (address, resident):
        alone = asyncio.run(_busy(address, options.reviews, 1))
        before = resident()
        began = time.monotonic()
        with _held(address, streams, options) as opened:
            accepted_s, after = time.monotonic() - began, resident()
            beside = asyncio.run(_busy(address, options.reviews, 1 + options.reviews))
            busy = resident()
        slowest_s = max(seconds for seconds, _ in opened)
        return {
            "streams": streams,
            "connections": -(-streams // options.per_connection),
            "accept_s": round(accepted_s, 2),
            "accept_s_slowest_client": round(slowest_s, 2),
            "accepts_per_s": round(streams / slowest_s),
            "tried_again": round(sum(times for _, times in opened)),
            "rss_before_mib": round(before / 2**20, 1),
            "rss_with_streams_mib": round(after / 2**20, 1),
            "rss_after_reviews_mib": round(busy / 2**20, 1),
            "kib_a_stream": round((after - before) / streams / 1024, 2),
            "review_ms_alone": alone,
            "review_ms_beside": beside,
        }


@contextlib.contextmanager
def _service(folder: Path, streams: int) -> Iterator[tuple[str, Any]]:
    settings = {
        "listen": "127.0.0.1:0", "reviewers": '["fixed:yard"]', "ledger": folder / "ledger.db", "max_streams": streams,
        "review.pixel_timeout_ms": 0,
    }  # fmt: skip
    overrides = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    process = subprocess.Popen(
        [sys.executable, "-m", "cloud_node.cli", "serve", *overrides], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        yield address, lambda: _resident(process.pid)
    finally:
        process.terminate()
        process.wait(120)


@contextlib.contextmanager
def _held(address: str, streams: int, options: argparse.Namespace) -> Iterator[list[list[float]]]:
    """`streams` idle ones from several processes; yields what each needed to open its own: seconds, and tries more."""
    shares = [len(part) for part in np.array_split(np.arange(streams), options.clients)]
    firsts = np.cumsum([0, *shares])
    command = [sys.executable, __file__, "--per-connection", str(options.per_connection), "--hold", address]
    clients = [
        subprocess.Popen([*command, str(first), str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for first, count in zip(firsts, shares, strict=False)
    ]
    try:
        yield [list(map(float, client.stdout.readline().split())) for client in clients if client.stdout]
    finally:
        for client in clients:
            client.communicate()


async def _hold(address: str, first: int, count: int, per_connection: int) -> None:
    """Open streams, say how long it took, and keep them until standard input ends."""
    options = [*client_options(), ("grpc.use_local_subchannel_pool", 1)]
    room = asyncio.Semaphore(AT_ONCE)
    knocked: list[int] = []

    async def open_one(client: ReviewClient, number: int) -> Exchange:
        async with room:
            for pause_s in (0.5, 1, 2, 4, 8):  # as a device does that finds no service
                with contextlib.suppress(UnavailableError):
                    return await _connect(client, f"idle-{number}")
                knocked.append(number)
                await asyncio.sleep(pause_s)
            return await _connect(client, f"idle-{number}")

    async with contextlib.AsyncExitStack() as stack:
        connections = range(0, count, per_connection)
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options)) for _ in connections
        ]
        clients = [ReviewClient(channel) for channel in channels]
        began = time.monotonic()
        streams = await asyncio.gather(*(open_one(clients[n // per_connection], first + n) for n in range(count)))
        print(time.monotonic() - began, len(knocked), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for stream in streams:
            stream.cancel()


async def _busy(address: str, reviews: int, first: int) -> dict[str, float]:
    """Milliseconds from sending one item to its verdict, one after the other."""
    async with grpc.aio.insecure_channel(address, options=client_options()) as channel:
        stream = await _connect(ReviewClient(channel), "busy")
        times = []
        for sequence in range(first, first + reviews):
            began = time.monotonic()
            await stream.send(Submission.of(_evidence(sequence)))
            assert isinstance(await stream.receive(), Verdict)
            times.append((time.monotonic() - began) * 1e3)
        stream.cancel()
    return {f"p{share}": round(float(np.percentile(times, share)), 2) for share in (50, 99)}


async def _connect(client: ReviewClient, device: str) -> Exchange:
    stream = client.exchange()
    await stream.send(Hello(device, EPOCH, "yard", (PROFILE,)))
    assert isinstance(await stream.receive(), Welcome)
    return stream


def _evidence(sequence: int) -> Evidence:
    return Evidence(
        ItemId(SampleId("busy", EPOCH, sequence), 1), "yard", sequence, 1, PROFILE, {}, Box2D(1, 2, 30, 40), 64, 64,
        {"drum": 0.5}, DeviceOpinion(), (SendReason.UNCERTAIN,), 0.5, {},
    )  # fmt: skip


def _resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def _raise_file_limit() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


if __name__ == "__main__":
    main()
