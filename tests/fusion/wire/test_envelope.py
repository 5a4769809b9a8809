"""Every message of the stream comes back as it went; what breaks the protocol is refused."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.errors import EvidenceError, FusionError, OverloadedError, ProtocolError, UnavailableError
from fusion.types import Box2D, ItemId, ItemState, LedgerCounts, PixelCrop, SampleId, SlotAnswer, Verdict
from fusion.wire import messages
from fusion.wire.envelope import (
    read_device_message,
    read_review_response,
    read_service_message,
    write_device_message,
    write_review_response,
    write_service_message,
)
from fusion.wire.v1 import review_pb2

ITEM = ItemId(SampleId("cart-1", "0" * 16, 3), 1)
VERDICT = Verdict(ITEM, {"object": SlotAnswer("drum", {"drum": 0.75, "cone": 0.25})}, False, ("maps",), "r", "ab")

FROM_DEVICE = [
    messages.Hello("cart-1", "0" * 16, "yard", ("ab",), {"fusion": "1"}, messages.ClockPing(5)),
    messages.Hello("cart-1", "0" * 16, "yard", protocol_version=9),
    messages.PixelAnswer(ITEM, PixelCrop(b"x", "png", Box2D(0, 0, 1, 1))),
    messages.PixelAnswer(ITEM),
    messages.ClockPing(7),
    messages.LedgerReport(LedgerCounts(9, 1, {ItemState.PASSED: 7, ItemState.PENDING: 1})),
    messages.Goodbye("done"),
]
FROM_SERVICE = [
    messages.Welcome(("ab", "cd"), 64, ITEM, messages.ClockPong(5, 6, 7)),
    messages.Welcome(("ab",), 8),
    VERDICT,
    messages.PixelRequest(ITEM, 3000),
    messages.ClockPong(1, 2, 3),
    messages.Draining(),
]


@pytest.mark.parametrize("message", FROM_DEVICE, ids=lambda m: type(m).__name__)
def test_device_messages_come_back(message):
    assert read_device_message(write_device_message(message)) == message


@pytest.mark.parametrize("message", FROM_SERVICE, ids=lambda m: type(m).__name__)
def test_service_messages_come_back(message):
    assert read_service_message(write_service_message(message)) == message


@pytest.mark.parametrize(
    ("error", "retry", "state"),
    [
        (OverloadedError("full", retry_after_s=0.5), 0.5, None),
        (UnavailableError("draining"), 2.0, None),
        (EvidenceError("bad crc"), None, ItemState.QUARANTINED),
        (UnavailableError("too late"), None, ItemState.EXPIRED),
    ],
)
def test_refusals_come_back_with_class_delay_and_state(error, retry, state):
    refusal = messages.Refusal(ITEM, error, retry, state)
    back = read_service_message(write_service_message(refusal))
    assert isinstance(back, messages.Refusal)
    assert (type(back.error), str(back.error)) == (type(error), str(error))
    assert (back.item, back.retry_after_s, back.state) == (ITEM, retry, state)
    assert back.retriable is (state is None)


def test_a_refusal_whose_details_are_broken_is_still_one():
    data = write_service_message(messages.Refusal(ITEM, OverloadedError("full", retry_after_s=2), 2.0, None))
    message = review_pb2.ServiceMessage.FromString(data)
    for detail in message.refusal.status.details:
        detail.value = b"\xff\xff\xff"
    back = read_service_message(message.SerializeToString())
    assert (type(back.error), back.retry_after_s, back.state) == (OverloadedError, None, None)


def test_an_expired_refusal_says_deadline_exceeded_to_whoever_knows_only_grpc():
    data = write_service_message(messages.Refusal(ITEM, UnavailableError("late"), None, ItemState.EXPIRED))
    assert review_pb2.ServiceMessage.FromString(data).refusal.status.code == 4


def test_a_unary_answer_comes_back():
    assert read_review_response(write_review_response(VERDICT)) == VERDICT


def test_a_refusal_that_is_neither_final_nor_retriable_breaks_the_protocol():
    data = write_service_message(messages.Refusal(ITEM, EvidenceError("bad"), None, ItemState.QUARANTINED))
    message = review_pb2.ServiceMessage.FromString(data)
    message.refusal.state = "reviewed"
    with pytest.raises(ProtocolError, match="state"):
        read_service_message(message.SerializeToString())


def test_a_malformed_crop_is_an_answer_without_one():
    message = review_pb2.DeviceMessage.FromString(write_device_message(FROM_DEVICE[2]))
    message.pixels.pixels.encoding = "bmp"
    answer = read_device_message(message.SerializeToString())
    assert answer.crop is None
    assert "encoding" in str(answer.fault)


def test_a_submission_without_an_identity_breaks_the_protocol():
    empty = review_pb2.DeviceMessage(submission=review_pb2.Submission())
    with pytest.raises(ProtocolError, match="item"):
        read_device_message(empty.SerializeToString())


def test_an_unknown_kind_breaks_the_protocol():
    with pytest.raises(ProtocolError):
        read_device_message(b"")
    with pytest.raises(ProtocolError):
        read_service_message(b"")


def test_a_hello_of_many_profiles_breaks_the_protocol():
    crowd = messages.Hello("cart-1", "0" * 16, "yard", tuple("ab" for _ in range(10_000)))
    with pytest.raises(ProtocolError, match="profiles"):
        read_device_message(write_device_message(crowd))


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_garbage_is_refused_in_our_own_words(data):
    for read in (read_device_message, read_service_message, read_review_response):
        with contextlib.suppress(FusionError):
            read(data)
