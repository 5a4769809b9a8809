"""What a supervisor such as systemd hears of a real daemon process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_node.supervision import ALIVE, READY, STOPPING, Supervisor

PROGRAM = Path(__file__).parent / "programs" / "daemon_with_fakes.py"
DUE_S = 0.4


@contextmanager
def supervised(folder: Path, *overrides: str, frames: int, ms: float):
    """A daemon that was told of a notification socket; the socket and the process."""
    config = folder / "edge.toml"
    config.write_text(
        f'task = "yard"\n[source]\npath = "unused"\n[spool]\npath = "{folder}/spool.db"\nkeep_free_bytes = 0\n'
        '[uplink]\naddress = "127.0.0.1:1"\n[drain]\nanswers_s = 0.1\n'
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(folder / "notify"))
        heard.settimeout(20)
        environment = {
            **os.environ, "NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": str(int(DUE_S * 1e6)),
        }  # fmt: skip
        environment.pop("WATCHDOG_PID", None)
        command = [sys.executable, str(PROGRAM), str(frames), str(ms), str(config), str(folder / "s.json"), *overrides]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield heard, process
        finally:
            process.kill()
            process.wait()


def test_it_is_told_of_the_start_of_life_and_of_the_end(tmp_path):
    with supervised(tmp_path, frames=100, ms=10) as (heard, process):
        told = [heard.recv(64).decode()]
        while told[-1] != STOPPING:
            told.append(heard.recv(64).decode())
        process.wait(20)
    assert told[0] == READY
    assert told.count(ALIVE) >= 2
    assert set(told) == {READY, ALIVE, STOPPING}


def test_a_daemon_that_stalls_gives_no_sign_of_life(tmp_path):
    """Would fail if the sign came from a thread that lives on while the pipeline hangs."""
    with supervised(tmp_path, "metrics.stalled_s=0.5", frames=10, ms=600_000) as (heard, _):
        assert heard.recv(64).decode() == READY
        assert heard.recv(64).decode() == ALIVE
        heard.settimeout(3)
        for _ in range(8):  # signs given before it was known to stall
            try:
                heard.recv(64)
            except TimeoutError:
                return
        pytest.fail("it goes on telling that it is alive")


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, Supervisor()),
        ({"NOTIFY_SOCKET": "/run/n"}, Supervisor("/run/n")),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "30000000"}, Supervisor("@n", 30.0)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, Supervisor("@n")),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "soon"}, Supervisor("@n")),
    ],
)
def test_the_supervisor_is_found_in_the_environment(environment, found):
    assert Supervisor.of_environment(environment) == found


def test_an_abstract_address_is_reached_and_one_that_is_gone_does_no_harm(tmp_path):
    name = f"fusion-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0{name}")
        heard.settimeout(5)
        Supervisor(f"@{name}").tell(READY)
        assert heard.recv(64).decode() == READY
    Supervisor(str(tmp_path / "gone")).tell(READY)
