"""Processes of servers and of the load, started and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from rivals.plan import Plan, Told

ROOT = Path(__file__).parents[2]
START_S = 120.0
END_S = 20.0


class ServerError(Exception):
    """A server did not come up or a run against it failed; the message says which."""


def environment(threads: int) -> dict[str, str]:
    """What every process gets: this checkout, so many threads of arithmetic, no network of models."""
    path = [str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    told = {"PYTHONPATH": os.pathsep.join(filter(None, path)), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **told, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


@contextlib.contextmanager
def server(command: Sequence[str], log: Path, threads: int, url: str | None = None) -> Iterator[str]:
    """Start it; yields what stands behind `ready on ` in its output, or `url` once that answers. Ends it afterwards."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=environment(threads), start_new_session=True
        )
    try:
        yield _wait(process, log, url)
    finally:
        _end(process)


def run(plan: Plan) -> Told:
    """The load in a process of its own. Raises `ServerError`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "told.json"
        command = [sys.executable, "-m", "rivals.generator", str(out)]
        done = subprocess.run(
            command, input=plan.model_dump_json(), text=True, capture_output=True, env=environment(1), check=False
        )
        if done.returncode:
            lines = (done.stderr + done.stdout).strip().splitlines()
            raise ServerError(f"the load against {plan.address} failed: {lines[-1] if lines else done.returncode}")
        if warned := done.stderr.strip().splitlines():
            print(f"the load against {plan.address}: {len(warned)} lines, the first: {warned[0]}", file=sys.stderr)
        return Told.model_validate_json(out.read_text(encoding="utf-8"))


def end_servers_when_terminated() -> None:
    """A benchmark ended by SIGTERM would leave its server running otherwise, beside whatever is measured next."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], log: Path, url: str | None) -> str:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        if url is None:
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.startswith("ready on "):
                    return line.removeprefix("ready on ").split()[0]
        elif _answers(url):
            return url
        time.sleep(0.1)
    told = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise ServerError(f"{' '.join(map(str, process.args))[:200]} does not come up: {' | '.join(told[-5:])}")  # type: ignore[arg-type]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Its whole session, for some servers start workers that outlive them."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
