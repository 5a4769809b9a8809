"""`cloud-node serve` as a process of its own, with the fixed reviewer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

from fusion.wire.channel import open_channel
from fusion.wire.client import ReviewClient

PROGRAM = str(Path(sys.executable).with_name("cloud-node"))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(ledger, *overrides, program=(PROGRAM,)):
    """Its command line; `program` is what stands for `cloud-node`."""
    sets = ["listen=127.0.0.1:0", 'reviewers=["fixed:yard"]', f"ledger={ledger}", "review.pixel_timeout_ms=0"]
    return [*program, "serve", *(part for one in (*sets, *overrides) for part in ("--set", one))]


@contextlib.asynccontextmanager
async def node(ledger, *overrides, program=(PROGRAM,)):
    """The process once it is ready, and a client; killed at the end if it still runs."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command(ledger, *overrides, program=program), stdout=pipe, stderr=pipe, env=ENVIRONMENT
    )
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 120)).decode()
        assert line.startswith("ready on 127.0.0.1:"), (line, (await process.stderr.read()).decode())
        async with open_channel(line.split()[-1]) as channel:
            yield process, ReviewClient(channel)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
