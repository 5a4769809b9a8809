"""Part one: as users run a pretrained model, against `cloud-node serve` with the same weights, pictures and threads."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rivals import checkpoint, ours, process
from rivals.books import Books
from rivals.checkpoint import Checkpoint
from rivals.generator import fates_of
from rivals.plan import Plan
from rivals.process import ServerError
from rivals.writing import Job, Wrote

TOGETHER = 4
"""Requests at a time to `transformers serve`."""
GENERATE = "(a) `generate` + JSON, a request at a time"
SERVE = f"(b) `transformers serve`, {TOGETHER} requests at a time"
VLLM = "(c) vLLM"
BY_CROP = "(g) `cloud-node serve`, the same crops over gRPC"
BY_FEATURES = "(g) `cloud-node serve`, features (32 visual tokens)"


class Users:
    """The rivals of this part; every measurement starts processes of its own."""

    def __init__(self, folder: Path, made: Checkpoint, seconds: float, batch: int, threads: int) -> None:
        self._folder, self._made, self._seconds, self._batch, self._threads = folder, made, seconds, batch, threads
        seeds = range(checkpoint.EXAMPLES)
        self._crops = checkpoint.write_blobs(folder / "crops", map(checkpoint.crop_evidence, seeds))
        self._features = checkpoint.write_blobs(folder / "features", map(checkpoint.feature_evidence, seeds))

    def measure(self, name: str) -> dict[str, Any]:
        """One of the names above. Raises `ServerError`."""
        if name == GENERATE:
            return self._writing("").model_dump()
        if name == SERVE:
            return self._served()
        if name == BY_CROP:
            return self._ours(self._made.by_crop, self._crops)
        return self._ours(self._made.reviewer, self._features)

    def _writing(self, url: str) -> Wrote:
        job = Job(
            model=str(self._made.model),
            url=url,
            seconds=self._seconds,
            together=TOGETHER if url else 1,
            threads=self._threads,
        )
        command = [sys.executable, "-m", "rivals.writing", job.model_dump_json()]
        done = subprocess.run(
            command, capture_output=True, text=True, env=process.environment(self._threads), check=False
        )
        if done.returncode:
            raise ServerError(f"writing verdicts failed: {done.stderr.strip().splitlines()[-1:]}")
        return Wrote.model_validate_json(done.stdout.strip().splitlines()[-1])

    def _served(self) -> dict[str, Any]:
        port = process.free_port()
        program = Path(sys.executable).with_name("transformers")
        command = [str(program), "serve", str(self._made.model), "--device", "cpu", "--dtype", "float32"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        url = f"http://127.0.0.1:{port}"
        with process.server(command, self._folder / "serve.log", self._threads, f"{url}/health"):
            return self._writing(url).model_dump()

    def _ours(self, reviewer: str, blobs: str) -> dict[str, Any]:
        ledger = self._folder / f"{process.free_port()}.db"
        sets = [f"threads={self._threads}", f"batch.items={self._batch}"]
        command = ours.command(reviewer, ledger, process.free_port(), sets)
        with process.server(command, self._folder / "cloud.log", self._threads) as address:
            plan = Plan(
                protocol="stream",
                address=address,
                blobs=blobs,
                devices=2 * self._batch,
                seconds=self._seconds,
                pattern="closed",
                window=2 * self._batch,
                warm_s=1.0,
            )
            books = Books.of(fates_of(process.run(plan)), self._seconds)
        return {
            "rate_s": books.goodput_s, "requests": books.in_time, "p50_ms": books.p50_ms, "p99_ms": books.p99_ms,
        }  # fmt: skip


def names() -> list[str]:
    """Who is measured here; says loudly who is not."""
    if find_spec("vllm") is None:
        print("SKIPPED (c) vLLM: it is not installed on this machine, so nothing is said against it", file=sys.stderr)
    else:
        print("SKIPPED (c) vLLM: it is installed, but this command starts it on no processor", file=sys.stderr)
    return [GENERATE, SERVE, BY_CROP, BY_FEATURES]
