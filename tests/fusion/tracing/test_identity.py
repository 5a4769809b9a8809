"""Ids of traces and spans, and `traceparent` as it crosses the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.tracing import TraceContext, root_span_id, submit_span_id, trace_id
from fusion.tracing.identity import is_sampled
from fusion.types import ItemId, SampleId
from fusion.wire.envelope import read_device_message, write_device_message
from fusion.wire.messages import Submission
from fusion.wire.v1 import review_pb2

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def item(sequence: int, number: int = 1) -> ItemId:
    return ItemId(SampleId("cart-1", "0123456789abcdef", sequence), number)


def test_an_items_ids_follow_from_its_id_and_are_no_others():
    items = [item(sequence, number) for sequence in range(1, 200) for number in (1, 2)]
    ids = [trace_id(one) for one in items]
    spans = [span for one in items for span in (root_span_id(one), submit_span_id(one))]
    assert ids == [trace_id(one) for one in items]
    assert len(set(ids)) == len(items)
    assert len(set(spans)) == 2 * len(items)
    assert trace_id(item(7)) == "fb010ce162a280f2e3535bef717cb259"  # spools and ledgers of today are looked up by it


@given(st.integers(1, 1 << 40), st.booleans())
def test_what_is_written_is_read(sequence, sampled):
    context = TraceContext(trace_id(item(sequence)), submit_span_id(item(sequence)), sampled)
    assert TraceContext.parse(str(context)) == context


@given(st.text(alphabet="0123456789abcdefg-", max_size=80))
def test_whatever_is_not_a_traceparent_is_none(text):
    context = TraceContext.parse(text)
    assert context is None or text.startswith(f"{text[:2]}-{context.trace}-{context.parent}-")


@pytest.mark.parametrize(
    "text",
    [
        "",
        GOOD.upper(),
        GOOD[:-1],
        GOOD + "-more",  # version 00 has no more
        "ff" + GOOD[2:],
        GOOD.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        GOOD.replace("b7ad6b7169203331", "0" * 16),
        GOOD + "\n",
        "cc" + GOOD[2:] + "-" + "x" * 300,
    ],
)
def test_a_malformed_traceparent_is_as_if_it_was_not_there(text, make_submission):
    message = review_pb2.DeviceMessage.FromString(write_device_message(make_submission))
    message.submission.traceparent = text
    assert read_device_message(message.SerializeToString()) == make_submission


@pytest.mark.parametrize(("text", "sampled"), [(GOOD, True), (GOOD[:-1] + "0", False), ("cc" + GOOD[2:] + "-x", True)])
def test_a_good_one_is_read_also_of_a_later_version(text, sampled, make_submission):
    message = review_pb2.DeviceMessage.FromString(write_device_message(make_submission))
    message.submission.traceparent = text
    read = read_device_message(message.SerializeToString())
    assert isinstance(read, Submission)
    assert read.trace == TraceContext(GOOD[3:35], GOOD[36:52], sampled)


def test_a_ratio_takes_its_share_and_larger_ones_take_all_of_smaller():
    traces = [trace_id(item(sequence)) for sequence in range(1, 2001)]
    few, many = ({trace for trace in traces if is_sampled(trace, ratio)} for ratio in (0.1, 0.5))
    assert few < many
    assert 150 < len(few) < 250
    assert not any(is_sampled(trace, 0.0) for trace in traces)
    assert all(is_sampled(trace, 1.0) for trace in traces)


@pytest.fixture
def make_submission():
    from fusion.types import Box2D, DeviceOpinion, Evidence, SendReason

    return Submission.of(
        Evidence(
            item(3), "yard", 1, 1, "ab" * 32, {}, Box2D(1, 2, 30, 40), 64, 64, {"drum": 0.5}, DeviceOpinion(),
            (SendReason.UNCERTAIN,), 0.5, {},
        )
    )  # fmt: skip
