"""A filled ledger, and the console on it: in this process for logic, as a service for the browser."""

import asyncio
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from cloud_node.console import users as hashing
from cloud_node.console.app import make_app
from cloud_node.console.backing import Backing
from cloud_node.console.settings import ConsoleSettings
from cloud_node.console.users import Role, new_user, write_users
from cloud_node.ledger import open_ledger
from cloud_node.outcome import Timings, refused, reviewed, verdict_of
from fusion.codec import Profile
from fusion.review.fixed import FixedReviewer
from fusion.review.synthetic import synthetic_evidence
from fusion.task import Task
from fusion.types import ItemId, ItemState, MapLayer, SampleId
from fusion.wire.messages import Submission

EPOCH = "00112233445566aa"
MINUTE_NS = 60_000_000_000
BEGAN_NS = 1_700_000_000_000_000_000
PASSWORD = "correct horse"
HOSTILE = '<script>alert("x")</script>&"\''
ITEMS = 12
PICTURE, DAMAGED, UNKNOWN, REFUSED = 3, 4, 5, 12
"""Sequences of what is special: with a picture, with maps that were damaged, of another trunk, never reviewed."""


def item(sequence, device="cart-1"):
    return ItemId(SampleId(device, EPOCH, sequence), 1)


def path_of(sequence, device="cart-1"):
    return f"/item/{device}/{EPOCH}/{sequence}/1"


@pytest.fixture(scope="session", autouse=True)
def fast_hashes():
    """Passwords are hashed as ever, with less work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "COST", 2**10)
        yield


@pytest.fixture(scope="session")
def profile():
    return Profile.load(Path(str(resources.files("fusion").joinpath("weights", "yard"))))


@pytest.fixture(scope="session")
def evidence_of(profile):
    """Evidence of item `sequence`; the larger the sequence, the more it is worth."""
    task = Task.load("yard")

    def make(sequence, **changes):
        evidence, _ = synthetic_evidence(task, profile, sequence, pixels=sequence == PICTURE)
        evidence = replace(evidence, item=item(sequence), value=float(sequence), **changes)
        if sequence == DAMAGED:
            layers = tuple(MapLayer(layer.symbols, layer.crc32 ^ 1, layer.coding) for layer in evidence.maps.layers)
            evidence = replace(evidence, maps=replace(evidence.maps, layers=layers))
        if sequence == UNKNOWN:
            evidence = replace(evidence, profile="cd" * 32)
        return evidence

    return make


@pytest.fixture(scope="session")
def outcomes(evidence_of):
    """One outcome a sequence, a minute apart."""
    reviewer = FixedReviewer(Task.load("yard"))
    made = []
    for sequence in range(1, ITEMS + 1):
        evidence = evidence_of(sequence)
        submission = Submission.of(evidence)
        answered_ns = BEGAN_NS + sequence * MINUTE_NS
        timings = Timings(answered_ns - 40_000_000, answered_ns, 10_000_000, 20_000_000, 4, 120)
        if sequence == REFUSED:
            made.append(refused(submission, evidence, ItemState.QUARANTINED, f"bad: {HOSTILE}", timings))
            continue
        (answers,) = reviewer.score([reviewer.prepare(evidence)])
        outcome = reviewed(submission, evidence, verdict_of(reviewer, evidence, answers, 0.6), timings)
        if sequence == UNKNOWN:  # no device can send such names, but a ledger may come from anywhere
            told = {"class_scores": {HOSTILE: 0.9}, "models": {"x" * 60: HOSTILE}, "reasons": [HOSTILE]}
            outcome = replace(outcome, header={**outcome.header, **told})
        made.append(outcome)
    return made


@pytest.fixture
def ledger(tmp_path, outcomes):
    opened = open_ledger(str(tmp_path / "ledger.db"))
    opened.store(outcomes)
    yield opened
    opened.close()


@pytest.fixture
def backing(ledger, profile):
    reader = ledger.reader()

    async def correct(correction):
        await asyncio.to_thread(ledger.record_correction, correction)

    yield Backing(reader, correct, tasks={"yard": Task.load("yard")}, profiles={profile.sha256: profile})
    reader.close()


@pytest.fixture(scope="session")
def users_made(fast_hashes):
    return {name: new_user(name, role, PASSWORD) for name, role in (("ann", Role.REVIEWER), ("vic", Role.VIEWER))}


@pytest.fixture(name="users")
def users_file(tmp_path, users_made):
    """A file with `ann`, who reviews, and `vic`, who looks."""
    write_users(tmp_path / "users.json", users_made)
    return tmp_path / "users.json"


@pytest.fixture
def visit(backing):
    """A browser without JavaScript at a console with these settings."""

    def open_client(base="http://localhost", **settings):
        app = make_app(ConsoleSettings(listen="127.0.0.1:0", **settings), backing, lambda: False)
        return TestClient(app, base_url=base, follow_redirects=False)

    return open_client


@pytest.fixture
def local(visit):
    return visit()


@pytest.fixture
def log_in(visit, users):
    """A browser in which somebody logged in."""

    def enter(name, **settings):
        client = visit(users=users, **settings)
        answer = client.post("/login", data={"token": token_of(client, "/login"), "name": name, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        return client

    return enter


def token_of(client, path):
    return re.search(r'name="token" value="(\w+)"', client.get(path).text)[1]


def fields_of(client, path):
    """What the form of an item would send as it stands."""
    text = client.get(path).text
    form = text[text.index('id="correct"') :]
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="(\w+)">', form))
    return fields | dict(re.findall(r'name="(answer\.\w+)" value="([\w-]+)" checked', form))
