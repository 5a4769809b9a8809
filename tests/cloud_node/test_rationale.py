"""Verdicts with a written reason: only when it holds nobody up."""

import asyncio
import re
import threading
from dataclasses import dataclass, field, replace

import pytest

from cloud_node.explaining import explain_item
from cloud_node.ledger import open_ledger, open_reader
from fusion.errors import ConfigError, FusionError, InputError, ProtocolError
from fusion.review.fixed import FixedReviewer
from fusion.types import ItemId, SampleId
from fusion.wire.convert import verdict_from_proto, verdict_to_proto
from fusion.wire.messages import Submission

PROFILE = "ab" * 32


@dataclass(frozen=True)
class Talker(FixedReviewer):
    """Says what it was given, holding on while `held` as long as it may."""

    said: list = field(default_factory=list)
    began: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)

    def explain(self, row, answers, max_tokens, carry_on=lambda: True):
        self.began.set()
        while self.held.is_set():
            if not carry_on():
                return ""
        self.said.append((row.item, max_tokens))
        return self.words(answers)

    def words(self, answers):
        return f"it is a {answers['object'].option}"


class Broken(Talker):
    def words(self, answers):
        raise ValueError("no words")


class Wild(Talker):
    def words(self, answers):
        return "<script>\n" + "x" * 5000


@pytest.fixture
def talker(yard):
    reviewer = Talker(yard, frozenset({PROFILE}))
    yield reviewer
    reviewer.held.clear()


def how(service, name):
    return service.metrics.registry.get_sample_value("fusion_cloud_rationales_total", {"how": name}) or 0


def run_all(serving, connect, exchange_all, evidence, *settings, reviewer):
    async def run():
        async with serving(*settings, reviewer=reviewer) as (service, client):
            stream, _ = await connect(client)
            answers = {}
            for one in evidence:  # one after the other, so that none gives way to the next
                answers |= await exchange_all(stream, [one])
            stream.cancel()
            return {item: got for item, (got,) in answers.items()}, service

    return asyncio.run(run())


def test_only_those_that_are_wanted_say_why_and_none_answers_otherwise(
    serving, connect, exchange_all, make_evidence, talker, tmp_path
):
    evidence = [make_evidence(n) for n in range(1, 9)]
    floor = "review.confidence_floor=0.7"
    plain, _ = run_all(serving, connect, exchange_all, evidence, floor, reviewer=talker)
    assert not any(verdict.rationale for verdict in plain.values())
    for mode in ("uncertain", "always"):
        ledger = f"ledger={tmp_path / mode}.db"
        told, service = run_all(
            serving, connect, exchange_all, evidence, floor, ledger, f"review.rationale={mode}", reviewer=talker
        )
        assert {item: replace(verdict, rationale="") for item, verdict in told.items()} == plain
        with_reason = {item for item, verdict in told.items() if verdict.rationale}
        assert with_reason == {item for item, verdict in told.items() if mode == "always" or verdict.uncertain}
        assert len(with_reason) > 0
        assert how(service, "written") == len(with_reason)
        reader = open_reader(str(tmp_path / f"{mode}.db"))
        kept = {outcome.item: outcome.verdict.rationale for outcome in reader.outcomes()}
        assert kept == {item: verdict.rationale for item, verdict in told.items()}
        reader.close()
    assert {tokens for _, tokens in talker.said} == {48}


def test_a_rationale_is_given_up_for_an_item_that_waits(serving, connect, make_evidence, talker):
    talker.held.set()

    async def run():
        async with serving("review.rationale=always", "review.rationale_wait_ms=60000", reviewer=talker) as (
            service,
            c,
        ):
            stream, _ = await connect(c)
            await stream.send(Submission.of(make_evidence(1)))
            await asyncio.to_thread(talker.began.wait)
            await stream.send(Submission.of(make_evidence(2)))
            first = await stream.receive()
            talker.held.clear()
            second = await stream.receive()
            stream.cancel()
            return first, second, how(service, "busy"), how(service, "written")

    first, second, busy, written = asyncio.run(run())
    assert (first.item.sample.sequence, first.rationale) == (1, "")
    assert second.rationale
    assert (busy, written) == (1, 1)


def test_a_rationale_ends_in_time(serving, connect, exchange_all, make_evidence, talker):
    talker.held.set()
    told, service = run_all(
        serving, connect, exchange_all, [make_evidence(1)], "review.rationale=always", "review.rationale_wait_ms=40",
        reviewer=talker,
    )  # fmt: skip
    assert [verdict.rationale for verdict in told.values()] == [""]
    assert how(service, "late") == 1


def test_a_reviewer_without_words_answers_all_the_same(serving, connect, exchange_all, make_evidence, yard):
    for number, kind, failed in ((1, Broken, 1), (2, FixedReviewer, 0)):
        reviewer = kind(yard, frozenset({PROFILE}))
        evidence = [make_evidence(number)]
        told, service = run_all(serving, connect, exchange_all, evidence, "review.rationale=always", reviewer=reviewer)
        assert [verdict.rationale for verdict in told.values()] == [""]
        assert how(service, "failed") == failed


def test_what_a_reviewer_says_is_made_plain(serving, connect, exchange_all, make_evidence, yard):
    reviewer = Wild(yard, frozenset({PROFILE}))
    told, _ = run_all(serving, connect, exchange_all, [make_evidence(1)], "review.rationale=always", reviewer=reviewer)
    (verdict,) = told.values()
    assert re.fullmatch(r"script x+\.\.\.", verdict.rationale)


def test_the_wire_refuses_what_is_no_line_of_text(serving, connect, exchange_all, make_evidence, talker):
    told, _ = run_all(serving, connect, exchange_all, [make_evidence(1)], "review.rationale=always", reviewer=talker)
    (verdict,) = told.values()
    assert verdict_from_proto(verdict_to_proto(verdict)) == verdict
    for bad in ("a\nb", "x" * 1001):
        with pytest.raises(ProtocolError, match="rationale"):
            verdict_to_proto(replace(verdict, rationale=bad))


def test_on_demand_from_the_ledger(serving, connect, exchange_all, make_evidence, talker, yard, tmp_path):
    (item,) = run_all(serving, connect, exchange_all, [make_evidence(1)], reviewer=talker)[0]
    reader = open_reader(str(tmp_path / "ledger.db"))
    try:
        assert explain_item(reader, talker, item, 7).startswith("it is a ")
        assert talker.said == [(item, 7)]
        with pytest.raises(ConfigError, match="cannot say why"):
            explain_item(reader, FixedReviewer(yard), item)
        with pytest.raises(InputError, match="no verdict"):
            explain_item(reader, talker, ItemId(SampleId("cart-1", "0123456789abcdef", 99), 1))
    finally:
        reader.close()


def test_a_changed_rationale_is_a_damaged_row(serving, connect, exchange_all, make_evidence, talker, tmp_path):
    import sqlite3

    told, _ = run_all(serving, connect, exchange_all, [make_evidence(1)], "review.rationale=always", reviewer=talker)
    (item,) = told
    for changed in ("'it is not'", "NULL"):
        with sqlite3.connect(tmp_path / "ledger.db") as connection:
            connection.execute(f"UPDATE outcomes SET rationale = {changed}")
        connection.close()
        ledger = open_ledger(str(tmp_path / "ledger.db"))
        with pytest.raises(FusionError, match="damaged"):
            ledger.find([item])
        ledger.close()
