"""`edge-node run` as a process whose wall clock is set by libfaketime (Debian's `faketime`); skipped without it."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from .edge_process import YARD, Process

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
if LIBRARY is None:
    pytest.skip("libfaketime is not there; apt-get install faketime", allow_module_level=True)
HOUR_S, TOLD_S, LATE_NS = 3600, 2.0, 500_000_000
SENSORS = "".join(
    f'[[source.sensors]]\nname = "{name}"\nurl = "{url}"\n'
    for name, url in (("front", "fake://eye"), ("roof", "fake-lidar://spin"))
)
SOURCE = f'[source]\nkind = "live"\nrig = "{YARD}"\n{SENSORS}'


class Wall:
    """The wall clock of one process; its monotonic clock is the host's."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "wall"
        self.environment = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, to: str) -> float:
        """`+3600` is an hour ahead, `@1970-01-01 00:00:30` a time; the monotonic second it is so from on."""
        at = time.monotonic()
        other = self._file.with_name("wall.new")
        other.write_text(f"{to}\n")
        other.replace(self._file)  # at once: the process reads it all the time
        return at


def check_books(process: Process, summary: dict) -> None:
    """Frames are samples or gaps, nothing is paired beyond the window, and intervals are positive but for steps."""
    assert summary["samples"] + summary["gaps"] == summary["sensors"]["front"]["frames"]
    samples = process.samples()
    assert all(0 <= slots["roof"][1] <= LATE_NS for _, slots in samples)
    assert summary["edge_ms_p99"] < HOUR_S * 1e3 / 2
    steps = [after - before for (before, _), (after, _) in pairwise(samples)]
    assert sum(abs(step) > HOUR_S * 1e9 / 2 for step in steps) == summary["clock"]["steps"]
    assert all(step > 0 for step in steps if abs(step) < HOUR_S * 1e9 / 2)


def test_a_wall_clock_that_jumps_by_an_hour_and_back_is_told_in_time_and_samples_go_on(start, tmp_path):
    wall = Wall(tmp_path)
    wall.set("+0")
    process = start(SOURCE, **wall.environment)
    process.until(lambda: process.told().get("healthy"))
    process.more_samples(5)
    for to, by_s in (("+3600", HOUR_S), ("+0", -HOUR_S)):
        at = wall.set(to)
        process.until(lambda by_s=by_s: process.told()["clock"]["last_step_s"] == pytest.approx(by_s, abs=1))
        told, _ = process.lines("clock: the host's was set by")[-1]
        assert told - at < TOLD_S
        process.more_samples(5)
        assert process.told()["healthy"]
    assert process.metrics()["fusion_edge_clock_steps_total"] == 2
    check_books(process, process.end())


@contextmanager
def tls_server(folder: Path):
    """A port that speaks TLS with a certificate of its own making, good from now on, and the authority for it."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", *names,
         "-days", "2", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    try:
                        context.wrap_socket(connection, server_side=True).close()
                    except OSError:
                        continue

        threading.Thread(target=serve, daemon=True).start()
        yield f"localhost:{server.getsockname()[1]}", certificate
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program to make a certificate")
def test_a_device_that_boots_in_1970_says_so_works_and_follows_once_its_clock_is_set(start, tmp_path):
    wall = Wall(tmp_path)
    wall.set("@1970-01-01 00:00:30")
    with tls_server(tmp_path) as (address, authority):
        uplink = f'address = "{address}"\n[uplink.tls]\nauthority = "{authority}"'
        process = start(SOURCE, uplink=uplink, **wall.environment)
        process.until(lambda: process.told().get("healthy"))
        assert process.told()["clock"]["unset"]
        assert process.metrics()["fusion_edge_clock_unset"] == 1
        process.more_samples(5)
        process.until(lambda: process.told()["uplink"] == "identity")
        assert "certificate is not yet valid" in process.told()["uplink_reason"]
        at = wall.set("+0")
        process.until(lambda: not process.told()["clock"]["unset"])
        told, _ = process.lines("clock: the host's was set by")[-1]
        assert told - at < TOLD_S
        process.more_samples(5)
        summary = process.end()
    assert process.lines("clock: the host's was never set, it says 1970")
    check_books(process, summary)
    times = [time_ns for time_ns, _ in process.samples()]
    assert times[0] < 1e15 < 1.6e18 < times[-1]
