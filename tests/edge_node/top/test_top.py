"""`edge-node top` against a real metrics server, and the arithmetic of histograms."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node import cli
from edge_node.metrics import Metrics, MetricsServer
from edge_node.spool import Resume, SampleRecord, Timing
from edge_node.top.scrape import Scrape, between, check_url, quantile, rate, scrape
from edge_node.uplink import LinkState
from fusion.errors import ConfigError, ProtocolError, UnavailableError

HEALTH = {"uplink": "offline", "uplink_reason": "connection refused", "source_ended": False}


@pytest.fixture
def daemon() -> Iterator[tuple[str, Metrics]]:
    """A metrics server whose daemon decides on two samples at every scrape."""
    metrics, asked = Metrics(), iter(range(1, 100))

    def refresh() -> None:
        number = next(asked)
        for sequence in (2 * number, 2 * number + 1):
            metrics.observe(SampleRecord(sequence, 0, {}, Resume(1, 0), timing=Timing(0, 40_000_000, 30_000_000)))
        metrics.sent.set(5 * number)
        metrics.verdicts.set(4 * number)
        metrics.waiting.set(7)
        metrics.bytes.set(3 << 20)
        metrics.resident.set(150 << 20)
        metrics.missed.labels("estimate").set(0.031)
        metrics.show_uplink(LinkState.OFFLINE)

    health = {"seconds_since_progress": 0.25, "power": "not measured: no power sensor was found", **HEALTH}
    server = MetricsServer("127.0.0.1:0", metrics, refresh, lambda: (True, health))
    yield f"http://127.0.0.1:{server.port}", metrics
    server.close()


def test_one_snapshot_says_what_the_daemon_tells(daemon, capsys):
    assert cli.main(["top", "--url", daemon[0], "--once", "--interval", "0.1"]) == 0
    told = capsys.readouterr().out
    rows = {line[:12].strip(): line[12:].strip() for line in told.splitlines()}
    assert rows["health"] == "healthy, last reading 0.2 s ago"
    assert "4 in all" in rows["samples"]
    assert 0 < float(rows["samples"].partition("/s")[0]) <= 20
    assert 0 < float(rows["verdicts"].partition("/s")[0]) <= 40
    assert rows["decision"] == "p50 40.0 ms, p99 49.8 ms", "the middle and end of the bucket 30..50 ms"
    assert rows["engines"] == "p50 25.0 ms, p99 29.9 ms"
    assert rows["spool"] == "7 items wait, 3.0 MiB"
    assert rows["link"] == "offline: connection refused"
    assert rows["missed"] == "3.1% of defects, by the audit lottery"
    assert rows["power"] == "not measured: no power sensor was found"
    assert rows["memory"] == "150.0 MiB resident"
    assert max(map(len, told.splitlines())) <= 80
    assert "\x1b" not in told


def test_power_and_heat_are_shown_where_they_are_measured(daemon, capsys):
    from prometheus_client import Gauge

    url, metrics = daemon
    Gauge("fusion_edge_power_watts", "", registry=metrics.registry).set(7.5)
    heat = Gauge("fusion_edge_temperature_celsius", "", ["zone"], registry=metrics.registry)
    heat.labels("cpu").set(61)
    heat.labels("gpu").set(48)
    assert cli.main(["top", "--url", url, "--once", "--interval", "0.1"]) == 0
    assert "7.50 W, warmest cpu 61 °C" in capsys.readouterr().out


def test_who_is_not_there_is_one_line(capsys):
    assert cli.main(["top", "--url", "http://127.0.0.1:9", "--once"]) == 5
    assert capsys.readouterr().err.startswith("edge-node: http://127.0.0.1:9: connection refused; is the daemon")


@pytest.mark.parametrize("url", ["127.0.0.1:9", "https://h:1", "http://", "http://h:x", "http://h:1/other"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="give the daemon's metrics"):
        check_url(url)


def test_an_address_with_a_path_is_understood():
    assert check_url("http://h:1/metrics") == check_url("http://h:1/") == "http://h:1"


def test_a_busy_spool_and_a_stranger_are_told_apart():
    def busy() -> None:
        raise UnavailableError("busy")

    server = MetricsServer("127.0.0.1:0", Metrics(), busy, lambda: (True, {}))
    with pytest.raises(ProtocolError, match="503: the spool does not answer: busy"):
        scrape(f"http://127.0.0.1:{server.port}", 0.0)
    server.close()


@given(st.lists(st.floats(0.0005, 1.9), min_size=1, max_size=60), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_it_belongs_to(values, share):
    bounds = (0.001, 0.01, 0.1, 1.0, 2.0, float("inf"))
    buckets = tuple((bound, float(sum(v <= bound for v in values))) for bound in bounds)
    found = quantile(buckets, share)
    exact = sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]
    above = next(bound for bound in bounds if exact <= bound)
    below = max((bound for bound in bounds if bound < above), default=0.0)
    assert below - 1e-9 <= found <= above + 1e-9


def test_nothing_counted_has_no_quantile():
    assert quantile((), 0.5) is None
    assert quantile(((1.0, 0.0), (float("inf"), 0.0)), 0.5) is None
    assert quantile(((1.0, 0.0), (float("inf"), 3.0)), 0.5) == 1.0


def test_a_new_start_gives_no_negative_rates():
    old = Scrape(0.0, {"samples_total": {(): 100.0}})
    new = Scrape(2.0, {"samples_total": {(): 4.0}})
    assert rate([old], "samples_total") is None
    assert rate([old, new], "samples_total") is None
    assert rate([new, Scrape(4.0, {"samples_total": {(): 10.0}})], "samples_total") == 3.0
    assert between(((1.0, 2.0),), ((1.0, 5.0),)) == ((1.0, 2.0),)
    assert between(((1.0, 7.0),), ((1.0, 5.0),)) == ((1.0, 2.0),)
    assert quantile(between(((1.0, 7.0),), ((1.0, 7.0),)), 0.5) is None  # nothing was counted: no latency of before


def test_without_rich_the_extra_is_named():
    hidden = "import sys; sys.modules['rich'] = None; sys.modules['rich.console'] = None\n"
    script = hidden + "from edge_node.cli import main; sys.exit(main(['top', '--once']))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is not installed; install fusion-stack[edge]" in done.stderr


def test_the_live_view_fits_a_terminal_and_says_when_the_daemon_is_gone(daemon):
    metrics = daemon[1]
    gone = MetricsServer("127.0.0.1:0", metrics, lambda: None, lambda: (True, {"uplink": "connected"}))
    url = f"http://127.0.0.1:{gone.port}"
    metrics.samples.inc()
    primary, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "edge_node.cli", "top", "--url", url, "--interval", "0.1"]
    environment = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}} | {"TERM": "xterm"}
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment) as shown:
        os.close(terminal)
        until(primary, "connected")
        gone.close()
        until(primary, "is the daemon running")
        shown.send_signal(signal.SIGINT)
        assert shown.wait(20) == 0
    os.close(primary)


def until(terminal: int, wanted: str, seconds: float = 30.0) -> None:
    """Read `terminal` until `wanted` is shown."""
    ends, shown = time.monotonic() + seconds, ""
    while wanted not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0.0, ends - time.monotonic()))
        assert ready, f"{wanted!r} is not in {shown!r}"
        shown += os.read(terminal, 65536).decode(errors="replace")
