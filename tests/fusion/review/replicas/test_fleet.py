"""Replicas that end and come again, on a host of the test's own: no process is started."""

import threading
import time
from concurrent.futures import Future

import pytest

from fusion.codec.synthetic import synthetic_profile
from fusion.review import LostError
from fusion.review.replicas import fleet as fleets
from fusion.review.replicas.actor import ReplicaActor
from fusion.review.replicas.fleet import Fleet
from fusion.review.replicas.name import ProcessName
from fusion.review.replicas.reviewer import ReplicasReviewer
from fusion.review.synthetic import synthetic_evidence


class FakeActor:
    """Loads when it is made, and answers in the caller's thread until `gone`."""

    def __init__(self):
        self.far, self.loaded, self.ended = ReplicaActor("fixed:yard", 1), Future(), Future()
        self.gone = self.killed = False

    def call(self, method, argument, timeout_s, carry_on=None):
        if self.gone:
            raise ConnectionError("gone")
        return getattr(self.far, method)(argument)

    def kill(self):
        self.killed = True


class FakeHost:
    def __init__(self):
        self.actors = []

    def begin(self):
        actor = FakeActor()
        self.actors.append(actor)
        actor.loaded.set_result(actor.far.load(near=True))
        return actor

    def resources(self):
        return "nothing"

    def close(self):
        pass


@pytest.fixture
def start(monkeypatch):
    """`start(host, options)` gives a reviewer whose replicas live there; it is closed afterwards."""
    monkeypatch.setattr(fleets, "_FIRST_BACK_OFF_S", 0.05)
    made = []

    def begin(host, options="start_s=20"):
        called = ProcessName.parse(f"[fixed:yard]?gpus=0&{options}")
        fleet = Fleet(host, called)
        made.append(ReplicasReviewer(called, host, fleet, fleet.start()))
        return made[-1]

    yield begin
    for reviewer in made:
        reviewer.close()


def row_of(reviewer):
    evidence, _ = synthetic_evidence(reviewer.task, synthetic_profile(task="yard"), 1)
    return reviewer.prepare(evidence)


def test_who_asks_waits_for_the_replica_that_comes_after_a_lost_one(start):
    host = FakeHost()
    reviewer = start(host)
    row = row_of(reviewer)
    before = reviewer.score([row])
    host.actors[-1].gone = True
    assert reviewer.score([row]) == before
    assert len(host.actors) == 2


def test_who_asks_waits_no_longer_than_a_replica_takes_to_start(start):
    host = FakeHost()
    reviewer = start(host, "start_s=0.2")
    host.begin = lambda: None
    host.actors[-1].gone = True
    began_s = time.monotonic()
    with pytest.raises(LostError, match="no replica"):
        reviewer.score([row_of(reviewer)])
    assert time.monotonic() - began_s < 5


def test_who_waits_is_told_when_it_is_closed(start):
    host = FakeHost()
    reviewer = start(host)
    host.begin = lambda: None
    host.actors[-1].gone = True
    threading.Timer(0.2, reviewer.close).start()
    with pytest.raises(LostError, match="no replica"):
        reviewer.score([row_of(reviewer)])


def test_what_the_host_raises_ends_no_replica_but_one(start, caplog):
    host = FakeHost()
    reviewer = start(host, "start_s=0.3&replicas=2")
    row = row_of(reviewer)

    def refuse():
        raise RuntimeError("the cluster is not reachable")

    def never_up():
        actor = FakeActor()
        host.actors.append(actor)
        return actor

    ordinary, host.begin, host.resources = host.begin, never_up, refuse
    first = host.actors[0]
    first.gone, first.kill = True, refuse
    assert len(reviewer.score([row])) == 1
    wait_for(lambda: len(host.actors) >= 4)  # two that did not come up
    host.begin = ordinary
    wait_for(lambda: len(reviewer.replicas()) == 2)
    reviewer.close()
    assert all(actor.killed for actor in host.actors if actor is not first)
    assert "cannot be ended (the cluster is not reachable)" in caplog.text
    assert "cannot be told (the cluster is not reachable)" in caplog.text


def wait_for(condition):
    until_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.01)
