"""Lanes that come only when asked for, and how a device is: both ways, and with peers from before there were any."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st

from fusion.codec.points import encode_points
from fusion.codec.sound import encode_sound
from fusion.errors import EvidenceError, FusionError, ProtocolError
from fusion.types import (
    Box2D,
    DeviceStatus,
    ItemId,
    ItemState,
    KeptLanes,
    LedgerCounts,
    PixelCrop,
    SampleId,
)
from fusion.wire import limits
from fusion.wire.envelope import read_device_message, write_device_message
from fusion.wire.lanes import parse_kept, serialize_kept
from fusion.wire.messages import LedgerReport, PixelAnswer
from fusion.wire.v1 import perception_pb2, review_pb2

ITEM = ItemId(SampleId("cart-1", "e" * 16, 3), 2)
PIXELS = PixelCrop(b"a picture", "jpeg", Box2D(0, 0, 96, 96))
POINTS = encode_points(np.random.default_rng(0).uniform(-3, 3, (200, 3)))
SOUND = encode_sound(np.arange(-4000, 4000, dtype=np.int16), 16_000, 123)
ALL = KeptLanes(PIXELS, POINTS, SOUND)
COUNTS = LedgerCounts(5, 1, {ItemState.REVIEWED: 2})
STATUS = DeviceStatus(
    power_w=12.5, temperature_c=-4.0, latency_p50_ms=20.0, latency_p99_ms=48.5, samples_per_s=10.0, outbox_items=3,
    oldest_outbox_s=0.25, uplink_bytes_per_s=2048.0, spool_bytes=12_345, software="0.1.0",
)  # fmt: skip
NEW_FIELDS = {
    "Evidence": {"points", "sound"},
    "PixelAnswer": {"points", "sound"},
    "DeviceMessage": {"status"},
}


@pytest.fixture(scope="module")
def old():
    """The messages as they were before points, sound and status."""
    pool = descriptor_pool.DescriptorPool()
    for module in (any_pb2, status_pb2, perception_pb2, review_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        for message in file.message_type:
            kept = [one for one in message.field if one.name not in NEW_FIELDS.get(message.name, ())]
            del message.field[:]
            message.field.extend(kept)
        pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"fusion.wire.v1.{name}"))


@pytest.mark.parametrize("kept", [ALL, KeptLanes(), KeptLanes(points=POINTS), KeptLanes(PIXELS, sound=SOUND)])
def test_answers_and_kept_lanes_come_back(kept):
    assert read_device_message(write_device_message(PixelAnswer.of(ITEM, kept))) == PixelAnswer.of(ITEM, kept)
    assert parse_kept(serialize_kept(kept), ITEM) == kept


def test_an_old_service_reads_the_picture_of_a_new_answer_and_a_new_one_that_of_an_old(old):
    new = write_device_message(PixelAnswer.of(ITEM, ALL))
    read = old("DeviceMessage").FromString(new)
    assert read.WhichOneof("message") == "pixels"
    assert read.pixels.pixels.encoded == PIXELS.encoded
    read.pixels.DiscardUnknownFields()
    assert read_device_message(read.SerializeToString()) == PixelAnswer(ITEM, PIXELS)


def test_an_old_service_reads_a_report_with_a_status_as_a_report(old):
    new = write_device_message(LedgerReport(COUNTS, STATUS))
    read = old("DeviceMessage").FromString(new)
    assert read.WhichOneof("message") == "ledger"
    assert (read.ledger.samples, read.ledger.gaps) == (5, 1)
    assert not hasattr(read, "status")
    read.DiscardUnknownFields()
    assert read_device_message(read.SerializeToString()) == LedgerReport(COUNTS)


def test_a_status_comes_back_and_what_is_not_measured_stays_absent():
    for status in (STATUS, DeviceStatus(), DeviceStatus(power_w=0.0, outbox_items=0, software="9")):
        assert read_device_message(write_device_message(LedgerReport(COUNTS, status))) == LedgerReport(COUNTS, status)


def test_fields_of_a_later_protocol_are_passed_over():
    later = b"\x9a\x3f\x03new"  # field 1011, three bytes
    data = write_device_message(LedgerReport(COUNTS, STATUS))
    assert read_device_message(data + later) == LedgerReport(COUNTS, STATUS)
    envelope = review_pb2.DeviceMessage.FromString(data)
    envelope.status.MergeFromString(later)
    assert read_device_message(envelope.SerializeToString()) == LedgerReport(COUNTS, STATUS)


@pytest.mark.parametrize(
    ("field", "value"),
    [("power_w", float("nan")), ("power_w", -1.0), ("temperature_c", 1e6), ("latency_p99_ms", float("inf")),
     ("outbox_items", 1 << 63), ("software", "two words"), ("software", "v" * 201)],
)  # fmt: skip
def test_an_impossible_status_is_refused_by_name(field, value):
    with pytest.raises(ProtocolError, match=f"DeviceStatus: field '{field}'"):
        write_device_message(LedgerReport(COUNTS, replace(STATUS, **{field: value})))
    envelope = review_pb2.DeviceMessage(ledger=review_pb2.LedgerReport())
    setattr(envelope.status, field, value)
    with pytest.raises(ProtocolError, match=f"DeviceStatus: field '{field}'"):
        read_device_message(envelope.SerializeToString())


@pytest.mark.parametrize(
    ("lane", "changes"),
    [("points", {"count": 0}), ("points", {"count": 4097}), ("points", {"step_m": float("nan")}),
     ("points", {"origin": (0.0, float("inf"), 0.0)}), ("points", {"encoded": bytes(limits.MAX_POINTS_BYTES + 1)}),
     ("points", {"encoded": b""}), ("sound", {"encoding": "mp3"}), ("sound", {"sample_rate_hz": 1}),
     ("sound", {"encoded": bytes(limits.MAX_SOUND_BYTES + 1)})],
)  # fmt: skip
def test_a_malformed_lane_costs_only_itself(lane, changes):
    bad = replace(ALL, **{lane: replace(getattr(ALL, lane), **changes)})
    with pytest.raises(EvidenceError, match=f"{lane} of {ITEM}"):
        write_device_message(PixelAnswer.of(ITEM, bad))
    message = review_pb2.PixelAnswer.FromString(serialize_kept_as_answer(bad))
    read = read_device_message(review_pb2.DeviceMessage(pixels=message).SerializeToString())
    assert read.kept == replace(ALL, **{lane: None})
    assert isinstance(read.fault, EvidenceError)


def serialize_kept_as_answer(kept: KeptLanes) -> bytes:
    """Unchecked, as a device with a defect would."""
    evidence = perception_pb2.Evidence.FromString(serialize_kept(kept))
    answer = review_pb2.PixelAnswer(pixels=evidence.pixels, points=evidence.points, sound=evidence.sound)
    answer.item.sample.device, answer.item.sample.epoch = ITEM.sample.device, ITEM.sample.epoch
    answer.item.sample.sequence, answer.item.item = ITEM.sample.sequence, ITEM.item
    return answer.SerializeToString()


@given(st.data())
def test_damaged_messages_are_read_or_refused(data):
    kind = data.draw(st.sampled_from([PixelAnswer.of(ITEM, ALL), LedgerReport(COUNTS, STATUS)]))
    message = bytearray(write_device_message(kind))
    for _ in range(data.draw(st.integers(1, 5))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FusionError):
        read_device_message(bytes(message))


@given(st.binary(max_size=200))
def test_random_bytes_are_no_lanes(blob):
    with contextlib.suppress(EvidenceError):
        parse_kept(blob, ITEM)
