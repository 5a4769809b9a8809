"""Triggers by a GPIO line, on a module that answers as gpiod does; where it is installed, its own names are used."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from types import ModuleType, SimpleNamespace

import pytest

from edge_node.live.gpio import GpioTrigger
from edge_node.live.triggers import trigger_class
from fusion.errors import ConfigError, SensorError

from .conftest import until

LINE = "gpio:///dev/gpiochip0/17"


class Names:
    """An enumeration of which a test only asks what it is called."""

    def __class_getitem__(cls, name: str) -> str:
        return name

    MONOTONIC = "MONOTONIC"


class Request:
    """A line's request: `edges` are monotonic times, an `OSError` breaks it off."""

    def __init__(self) -> None:
        self.edges: deque[int | OSError] = deque()
        self.released = 0
        self.asked: dict = {}

    def __enter__(self) -> Request:
        return self

    def __exit__(self, *_: object) -> None:
        self.released += 1

    def wait_edge_events(self, timeout: float) -> bool:
        ends = time.monotonic() + timeout
        while not self.edges and time.monotonic() < ends:
            time.sleep(0.001)
        return bool(self.edges)

    def read_edge_events(self) -> list[SimpleNamespace]:
        found = [self.edges.popleft() for _ in range(len(self.edges))]
        for edge in found:
            if isinstance(edge, OSError):
                raise edge
        return [SimpleNamespace(timestamp_ns=edge, line_seqno=number) for number, edge in enumerate(found, 1)]


@pytest.fixture
def line(monkeypatch) -> Request:
    request, gpiod = Request(), ModuleType("gpiod")

    def request_lines(path, config, consumer=None, event_buffer_size=None):
        if path != "/dev/gpiochip0":
            raise FileNotFoundError(2, "No such file or directory")
        request.asked = {"path": path, "buffer": event_buffer_size, **config}
        return request

    gpiod.request_lines, gpiod.LineSettings = request_lines, lambda **given: given
    gpiod.line = SimpleNamespace(Edge=Names, Bias=Names, Clock=Names)
    monkeypatch.setitem(sys.modules, "gpiod", gpiod)
    return request


def test_each_edge_is_a_part_at_the_kernels_time_of_it(line):
    trigger = GpioTrigger.open(LINE + "?edge=falling&debounce_ms=5&bias=pull-up", time.time_ns)
    seen = time.monotonic_ns() - 50_000_000, time.monotonic_ns() - 20_000_000
    wall = time.time_ns()
    line.edges.extend(seen)
    events = trigger.events()
    first, second = next(events), next(events)
    assert abs(second - first - 30_000_000) < 5_000_000
    assert abs(wall - second - 20_000_000) < 5_000_000
    trigger.close()
    assert list(events) == []
    assert line.released == 1
    asked = line.asked[17]
    assert (asked["edge_detection"], asked["bias"], asked["event_clock"]) == ("FALLING", "PULL_UP", "MONOTONIC")
    assert asked["debounce_period"].total_seconds() == 0.005


def test_a_line_may_be_named(line):
    GpioTrigger.open("gpio:///dev/gpiochip0/GPIO17", time.time_ns)
    assert line.asked["GPIO17"]["edge_detection"] == "RISING"
    assert trigger_class(LINE) is GpioTrigger


def test_a_line_that_is_gone_is_opened_again(live, line):
    source = live(trigger={"url": LINE, "backoff_first_s": 0.01, "backoff_max_s": 0.02})
    source.declare("front")
    readings = source.readings(0)
    line.edges.append(OSError(19, "No such device"))
    line.edges.append(0)
    stopped = f"{LINE}: broke off (no such device)"
    whys: list[str] = []

    def opened_again() -> bool:
        whys.append(source.told()["trigger"]["why"])
        return source.told()["trigger"]["restarts"] >= 1 and source.told()["trigger"]["state"] == "streaming"

    reader = threading.Thread(target=lambda: list(readings), daemon=True)
    reader.start()
    until(opened_again)
    assert set(whys) <= {"", stopped}
    line.edges.append(time.monotonic_ns())
    until(lambda: source.told()["trigger"]["frames"] == 1)
    source.close()
    reader.join(5)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("gpio:///dev/gpiochip9/1", "gpio:///dev/gpiochip9/1: cannot be opened (no such file or directory)"),
        ("gpio:///17", "give gpio:///dev/CHIP/LINE"),
        ("gpio://gpiochip0/17", "give gpio:///dev/CHIP/LINE"),
        (LINE + "?edge=up", "edge 'up' is not known; known: rising, falling, both"),
        (LINE + "?bias=up", "bias 'up' is not known"),
        (LINE + "?debounce_ms=soon", "debounce_ms 'soon': give 0 to 1000"),
        (LINE + "?debounce_ms=-1", "debounce_ms '-1': give 0 to 1000"),
        (LINE + "?debounce_ms=nan", "debounce_ms 'nan': give 0 to 1000"),
        (LINE + "?pull=up", "unknown key 'pull'; known keys: edge, bias, debounce_ms"),
    ],
)
def test_a_line_that_cannot_be_opened_is_told(line, url, told):
    with pytest.raises((SensorError, ConfigError)) as caught:
        GpioTrigger.open(url, time.time_ns)
    assert told in str(caught.value)


def test_the_library_has_what_is_asked_of_it():
    """The real one, of which only names and the refusal of a chip that is not there can be tried without a board."""
    gpiod = pytest.importorskip("gpiod", reason="needs gpiod: install fusion-stack[live]")
    assert gpiod.line.Bias["PULL_UP"] is gpiod.line.Bias.PULL_UP
    with pytest.raises(SensorError, match=r"gpiochip99/1.*: cannot be opened \(no such file or directory\)"):
        GpioTrigger.open("gpio:///dev/gpiochip99/1?edge=both&debounce_ms=2.5&bias=pull-down", time.time_ns)
