"""The console script with replicas: told to stop it ends them, killed it leaves none behind."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from cloud_node.ledger import SqliteLedger
from fusion.types import ItemState
from fusion.wire.channel import open_channel
from fusion.wire.client import ReviewClient
from fusion.wire.messages import Submission

NAMES = {"process": "fusion.review.replicas.process", "ray": "ReplicaActor"}
"""What a replica's command line has."""
PROGRAM = str(Path(sys.executable).with_name("cloud-node"))


@pytest.fixture
def environment(tmp_path):
    """One in which both are schemes of reviewers, also where the package was installed before they became so."""
    found = tmp_path / "found" / "schemes-1.dist-info"
    found.mkdir(parents=True)
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: schemes\nVersion: 1\n")
    room = "fusion.review.replicas.reviewer"
    (found / "entry_points.txt").write_text(
        f"[fusion.reviewers]\nray = {room}:RayReviewer\nprocess = {room}:ProcessReviewer\n"
    )
    paths = [str(found.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


def command_of(process):
    """Its command line; of one that ended meanwhile, a zombie, nothing."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("scheme", list(NAMES))
def test_the_service_ends_and_its_replicas_with_it(scheme, request, environment, tmp_path, make_evidence, how):
    if scheme == "ray":
        request.getfixturevalue("needs_ray")
    sets = ["listen=127.0.0.1:0", f'reviewers=["{scheme}:[fixed:yard]?replicas=2&gpus=0"]']
    sets += [f"ledger={tmp_path / 'ledger.db'}", "review.pixel_timeout_ms=0"]
    command = [PROGRAM, "serve", *(part for one in sets for part in ("--set", one))]

    async def run():
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=environment)
        line = (await asyncio.wait_for(process.stdout.readline(), 300)).decode()
        assert line.startswith("ready on "), (line, (await process.stderr.read()).decode())
        parts = psutil.Process(process.pid).children(recursive=True)
        replicas = [part for part in parts if NAMES[scheme] in command_of(part)]
        assert len(replicas) == 2
        if scheme == "process":  # what a terminal or systemd tells all processes at once is for the service
            for replica in replicas:
                replica.send_signal(signal.SIGINT)
                replica.send_signal(signal.SIGTERM)
        async with open_channel(line.split()[-1]) as channel:
            client = ReviewClient(channel)
            await asyncio.gather(*(client.review(Submission.of(make_evidence(n))) for n in range(1, 11)))
            if how is signal.SIGKILL and scheme == "process":  # also in the middle of what it does
                for replica in replicas:
                    replica.suspend()
        process.send_signal(how)
        await asyncio.wait_for(process.wait(), 60)
        ending = parts if how is signal.SIGTERM else replicas  # Ray's own helpers look only now and then
        _, left = await asyncio.to_thread(psutil.wait_procs, ending, 60)
        assert [part.name() for part in left] == []
        return process.returncode, (await process.stderr.read()).decode()

    code, told = asyncio.run(run())
    assert SqliteLedger.open_reader(tmp_path / "ledger.db").counts() == {ItemState.REVIEWED: 10}
    if how is signal.SIGTERM:
        lines = [line for line in told.splitlines() if "skipping fork() handlers" not in line]  # gRPC's, of a start
        assert (code, lines) == (0, [])
