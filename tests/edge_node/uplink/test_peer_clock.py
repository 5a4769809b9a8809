"""The service's clock against ours, while one of them is set."""

from __future__ import annotations

import pytest

from edge_node.uplink.peer_clock import MAX_ASKED, PeerClock
from fusion.clock import OffsetEstimate
from fusion.wire.messages import ClockPong

HOUR = 3_600_000_000_000
MS = 1_000_000


class Host:
    """A monotonic clock, and a wall clock that can be set; the service's wall clock goes with the former."""

    def __init__(self) -> None:
        self.now, self.wall, self.service = 10**12, 10**18, 10**18 + 5 * MS

    def monotonic_ns(self) -> int:
        return self.now

    def wall_ns(self) -> int:
        return self.wall + self.now

    def exchange(self, peer: PeerClock, *, set_by: int = 0, way_ns: int = MS) -> None:
        """A ping there and back, with the host's clock set on the way."""
        sent = peer.ping().sent_ns
        self.now += way_ns
        there = self.service + self.now
        self.wall += set_by
        self.now += way_ns
        peer.answered(ClockPong(sent, there, there))


@pytest.mark.parametrize("step", [HOUR, -HOUR, 50 * MS, -50 * MS])
def test_a_clock_that_is_set_on_the_way_does_not_spoil_the_estimate(step):
    host = Host()
    peer = PeerClock(host)
    host.exchange(peer, set_by=step)
    assert peer.best == OffsetEstimate(5 * MS, MS)
    host.exchange(peer, way_ns=2 * MS)
    assert peer.best == OffsetEstimate(5 * MS - step, 2 * MS)


def test_the_narrower_estimate_stays_while_nothing_contradicts_it():
    host = Host()
    peer = PeerClock(host)
    host.exchange(peer)
    host.exchange(peer, way_ns=20 * MS)
    assert peer.best == OffsetEstimate(5 * MS, MS)
    host.service += HOUR
    host.exchange(peer, way_ns=20 * MS)
    assert peer.best == OffsetEstimate(HOUR + 5 * MS, 20 * MS)


def test_answers_to_what_was_never_asked_are_passed_over_and_old_questions_given_up():
    host = Host()
    peer = PeerClock(host)
    peer.answered(ClockPong(1, 2, 3))
    first = peer.ping().sent_ns
    for _ in range(MAX_ASKED):
        host.now += 1
        peer.ping()
    peer.answered(ClockPong(first, first, first))
    assert peer.best is None
