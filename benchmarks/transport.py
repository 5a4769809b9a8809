"""The transport alone: messages a second of one bidirectional stream of 4 KB evidence, against a bare grpc.aio echo.

    python benchmarks/transport.py [--messages 8000] [--rounds 5] [--quick] [--out transport.json]

Service and device are processes of their own on the loopback. Each message goes up as our device sends it, and an
answer of a verdict's size comes down; the device's messages are ready-made and answers are counted, not read, whoever
answers. The ways, which take turns:

- `echo`: grpc.aio and nothing else; equal bytes both ways.
- `wire`: our transport. The envelope is read, all of the evidence checked and made a value, a verdict checked and made
  a message. No pipeline, no reviewer, no ledger.
- `service`: everything but model and disk: sessions, admission, batcher, a reviewer that hashes, a ledger in memory.
- `ledger`: the same with SQLite, every answer on the disk before it is told.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rivals import checkpoint, process
from rivals.pipes import WAYS, answer_of
from rivals.process import ServerError
from tqdm import tqdm

from fusion.codec import quantize_tokens
from fusion.task import Task
from fusion.types import Verdict
from fusion.wire.envelope import write_service_message

TARGET = 0.7


def reply_bytes() -> int:
    """How large a verdict is."""
    task = Task.load("yard")
    answers = {slot.name: answer_of(slot.options) for slot in task.slots}
    item = checkpoint.feature_evidence(0).item
    verdict = Verdict(item, answers, False, ("maps", "tokens"), "fixed:yard", task.prompt_sha256)
    return len(write_service_message(verdict))


def evidence(kilobytes: float) -> list[Any]:
    """Yard items near that size; fused tokens, which do not compress, make it up."""
    from dataclasses import replace

    import numpy as np

    from fusion.wire.convert import serialize_evidence

    made = []
    for seed in range(checkpoint.EXAMPLES):
        one = checkpoint.feature_evidence(seed)
        bare = len(serialize_evidence(replace(one, tokens=None)))
        rows = max(1, min(64, round((kilobytes * 1024 - bare) / 96)))
        values = np.random.default_rng(seed).normal(size=(rows, 96)).astype(np.float32)
        made.append(replace(one, tokens=quantize_tokens(values)))
    return made


def measure(way: str, blobs: str, folder: Path, count: int, window: int) -> float:
    """Messages a second. Raises `ServerError`."""
    command = [sys.executable, "-m", "rivals.pipes", way, str(reply_bytes())]
    with process.server(command, folder / f"{way}.log", 1) as address:
        pump = [sys.executable, "-m", "rivals.pumping", address, blobs, str(count), str(window)]
        done = subprocess.run(pump, capture_output=True, text=True, env=process.environment(1), check=False)
    if done.returncode:
        raise ServerError(f"{way}: {done.stderr.strip().splitlines()[-1:]}")
    return float(json.loads(done.stdout.strip().splitlines()[-1])["messages_s"])


def main() -> None:
    """Measure, print a table, write JSON."""
    process.end_servers_when_terminated()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--window", type=int, default=256, help="messages without an answer")
    parser.add_argument("--kilobytes", type=float, default=4.0)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--quick", action="store_true", help="one short round: does it work, not how fast")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.messages, options.rounds = 500, 1
    rates: dict[str, list[float]] = {way: [] for way in options.ways}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        blobs = checkpoint.write_blobs(folder / "blobs", evidence(options.kilobytes))
        turns = [way for n in range(options.rounds) for way in options.ways[:: 1 if n % 2 == 0 else -1]]
        for way in tqdm(turns, unit="run", disable=None):
            rates[way].append(measure(way, blobs, folder, options.messages, options.window))
    rows = [{"way": way, "messages_s": round(statistics.median(told), 1)} for way, told in rates.items()]
    echo = rates.get("echo", [])
    print("| way | messages/s | by the echo, median of rounds |\n|---|---|---|")
    for row in rows:
        told = rates[row["way"]]
        row["ratio"] = round(statistics.median(a / b for a, b in zip(told, echo, strict=True)), 3) if echo else None
        print(f"| {row['way']} | {row['messages_s']:,.0f} | {row['ratio']} |")
    print(f"target: {TARGET} for `wire`")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"rows": rows, "rates": rates}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
