"""Pauses between attempts: they grow while something fails, however long that takes."""

from __future__ import annotations

import pytest

from edge_node.live.health import SensorHealth
from edge_node.live.supervised import Supervised
from edge_node.settings.live import SupervisedSettings
from fusion.clock import ManualClock
from fusion.errors import SensorError

S = 10**9


class Gate:
    """In place of the event that ends it: waiting takes no time, and it is over after `most` pauses."""

    def __init__(self, most: int) -> None:
        self.most, self.pauses = most, []

    def is_set(self) -> bool:
        return len(self.pauses) >= self.most

    def wait(self, pause_s: float) -> bool:
        self.pauses.append(pause_s)
        return self.is_set()


class Idle:
    def close(self) -> None:
        """Nothing is open."""


def pauses(opening_s: float, running_s: float | None) -> list[float]:
    """Before each of seven attempts that take so long to open and, where they do, run so long."""
    clock = ManualClock()

    def opening() -> Idle:
        clock.advance(round(opening_s * S))
        if running_s is None:
            raise SensorError("fake://eye: connection timed out")
        return Idle()

    def given(_: Idle):
        clock.advance(round(running_s * S))
        yield from ()

    settings = SupervisedSettings(url="fake://eye", backoff_first_s=0.2, backoff_max_s=60)
    made = Supervised(settings, SensorHealth("front", 1.0, clock), clock, opening, given, lambda _: None)
    gate = made._stop = Gate(7)
    made.run()
    return gate.pauses


@pytest.mark.parametrize("opening_s", [0.0, 5.05, 30.0])
def test_the_pause_grows_however_long_an_attempt_takes_to_fail(opening_s):
    found = pauses(opening_s, None)
    assert all(0.1 * 2**i <= pause <= 0.2 * 2**i for i, pause in enumerate(found))


def test_what_ran_for_long_begins_its_pauses_anew_and_what_broke_off_at_once_does_not():
    assert max(pauses(1.0, 6.0)) <= 0.2
    assert pauses(6.0, 1.0)[-1] >= 6.4
