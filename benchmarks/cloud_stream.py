"""Reviews a second through the real service with a reviewer that costs nothing: transport, batching and ledger alone.

    python benchmarks/cloud_stream.py [--items 5000] [--devices 1] [--window 64]

Service and devices are separate processes on the loopback; every verdict is committed (synchronous=FULL) first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fusion.types import (
    Box2D,
    CellWindow,
    DeviceOpinion,
    Evidence,
    FusedTokens,
    GatedMaps,
    ItemId,
    MapLayer,
    SampleId,
    SendReason,
    Verdict,
    new_epoch,
)
from fusion.wire.channel import open_channel
from fusion.wire.client import ReviewClient
from fusion.wire.messages import Hello, Submission

PROFILE = "ab" * 32


def evidence(device: str, epoch: str, sequence: int, rng: np.random.Generator) -> Evidence:
    """About 3.5 KB, like a yard item."""
    windows = (CellWindow(0, 0, 16, 12), CellWindow(0, 0, 8, 6), CellWindow(0, 0, 4, 3))
    return Evidence(
        item=ItemId(SampleId(device, epoch, sequence), 1),
        task="yard",
        time_ns=sequence,
        track=sequence,
        profile=PROFILE,
        models={"fusion": "f1"},
        box=Box2D(10, 20, 110, 90),
        image_width=640,
        image_height=384,
        class_scores=dict.fromkeys(("drum", "pallet", "crate", "cone", "person", "forklift"), 0.1),
        opinion=DeviceOpinion({"drum": 0.75, "cone": 0.25}, {"ok": 0.5, "dented": 0.5}, 0.25, None),
        reasons=(SendReason.UNCERTAIN,),
        value=0.5,
        ages_ns={"front": 0, "roof": 20_000_000, "mic": 0},
        maps=GatedMaps(windows, rng.bytes(32), (MapLayer(rng.bytes(2200), 1),)),
        tokens=FusedTokens(rng.integers(-99, 99, (9, 96), dtype=np.int8), 0.0625),
    )


async def one_device(address: str, name: str, items: int, window: int) -> list[float]:
    """Send `items` with at most `window` unanswered; seconds from sending to verdict of each."""
    rng, epoch = np.random.default_rng(0), new_epoch()
    submissions = [Submission.of(evidence(name, epoch, n, rng)) for n in range(1, items + 1)]
    sent: dict[ItemId, float] = {}
    latencies: list[float] = []
    room = asyncio.Semaphore(window)
    async with open_channel(address) as channel:
        stream = ReviewClient(channel).exchange()
        await stream.send(Hello(name, epoch, "yard", (PROFILE,)))
        await stream.receive()

        async def read() -> None:
            while len(latencies) < items:
                answer = await stream.receive()
                assert isinstance(answer, Verdict), answer
                latencies.append(time.perf_counter() - sent[answer.item])
                room.release()

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            for submission in submissions:
                await room.acquire()
                sent[submission.item] = time.perf_counter()
                await stream.send(submission)
        stream.cancel()
    return latencies


async def measure(address: str, devices: int, items: int, window: int) -> dict[str, float]:
    """All devices at once."""
    began = time.perf_counter()
    runs = await asyncio.gather(*(one_device(address, f"cart-{n}", items // devices, window) for n in range(devices)))
    seconds = time.perf_counter() - began
    latencies = np.concatenate(runs) * 1e3
    return {
        "reviews_per_s": round(len(latencies) / seconds, 1),
        "answer_ms_p50": round(float(np.percentile(latencies, 50)), 2),
        "answer_ms_p99": round(float(np.percentile(latencies, 99)), 2),
    }


def main() -> None:
    """Start a service, load it, print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=5000)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--window", type=int, default=64)
    arguments = parser.parse_args()
    program = Path(sys.executable).with_name("cloud-node")
    with tempfile.TemporaryDirectory() as folder:
        sets = ["listen=127.0.0.1:0", 'reviewers=["fixed:yard"]', f"ledger={folder}/ledger.db", "queue.window=1024"]
        sets += ["review.pixel_timeout_ms=0"]
        command = [str(program), "serve", *(part for one in sets for part in ("--set", one))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
            assert service.stdout is not None
            address = service.stdout.readline().split()[-1]
            try:
                result = asyncio.run(measure(address, arguments.devices, arguments.items, arguments.window))
            finally:
                service.terminate()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    result["service_cpu_ms_per_review"] = round((used.ru_utime + used.ru_stime) * 1e3 / arguments.items, 3)
    result["service_rss_mb"] = round(used.ru_maxrss / 1024, 1)
    print(json.dumps({**vars(arguments), **result}))


if __name__ == "__main__":
    main()
