"""Stream messages to bytes and back: what the gRPC methods use as serialisers.

Reading never raises anything but `FusionError`: a bad item or handshake field is a `ProtocolError`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from fusion.errors import EvidenceError, ProtocolError
from fusion.tracing import TraceContext
from fusion.types import ItemId, ItemState, LedgerCounts, Verdict
from fusion.wire import limits, messages
from fusion.wire.checks import FieldCheck
from fusion.wire.convert import item_to_proto, verdict_from_proto, verdict_to_proto
from fusion.wire.device_status import status_from_proto, status_to_proto
from fusion.wire.lanes import answer_message, crop_from_proto, points_from_proto, sound_from_proto
from fusion.wire.rules import item_from_proto
from fusion.wire.status import error_of, retry_after_of, status_of
from fusion.wire.v1 import perception_pb2, review_pb2

Lane = TypeVar("Lane")
_EXPIRED_CODE = 4
_MAX_COUNT = 1 << 62


def write_device_message(message: messages.DeviceMessage) -> bytes:
    """A device's message as bytes; raises `EvidenceError` for evidence that must not be sent."""
    kind, write = _DEVICE_WRITERS[type(message)]
    envelope = review_pb2.DeviceMessage(**{kind: write(message)})
    if isinstance(message, messages.LedgerReport) and message.status:
        envelope.status.CopyFrom(status_to_proto(message.status))
    return envelope.SerializeToString()


def read_device_message(data: bytes) -> messages.DeviceMessage:
    """A device's message from bytes; raises `ProtocolError`."""
    envelope = _parse(review_pb2.DeviceMessage, data)
    kind = envelope.WhichOneof("message")
    if kind not in _DEVICE_READERS:
        raise ProtocolError("a device sent a message of a kind that this version of the protocol does not have")
    message = _DEVICE_READERS[kind](getattr(envelope, kind))
    if isinstance(message, messages.LedgerReport) and envelope.HasField("status"):
        return messages.LedgerReport(message.counts, status_from_proto(envelope.status))
    return message


def write_service_message(message: messages.ServiceMessage) -> bytes:
    """The service's message as bytes."""
    kind, write = _SERVICE_WRITERS[type(message)]
    return review_pb2.ServiceMessage(**{kind: write(message)}).SerializeToString()


def read_service_message(data: bytes) -> messages.ServiceMessage:
    """The service's message from bytes; raises `ProtocolError`."""
    envelope = _parse(review_pb2.ServiceMessage, data)
    kind = envelope.WhichOneof("message")
    if kind not in _SERVICE_READERS:
        raise ProtocolError("the service sent a message of a kind that this version of the protocol does not have")
    return _SERVICE_READERS[kind](getattr(envelope, kind))


def write_review_request(submission: messages.Submission) -> bytes:
    """A ReviewItem request as bytes."""
    return review_pb2.ReviewItemRequest(submission=_submission(submission)).SerializeToString()


def read_review_request(data: bytes) -> messages.Submission:
    """A ReviewItem request from bytes; raises `ProtocolError`."""
    return _read_submission(_parse(review_pb2.ReviewItemRequest, data).submission)


def write_review_response(verdict: Verdict) -> bytes:
    """A ReviewItem response as bytes."""
    return review_pb2.ReviewItemResponse(verdict=verdict_to_proto(verdict)).SerializeToString()


def read_review_response(data: bytes) -> Verdict:
    """A ReviewItem response from bytes; raises `ProtocolError`."""
    return verdict_from_proto(_parse(review_pb2.ReviewItemResponse, data).verdict)


def _parse(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise ProtocolError(f"{len(data)} bytes from the peer are not a {kind.__name__}") from None


def _ping(ping: messages.ClockPing) -> review_pb2.ClockPing:
    return review_pb2.ClockPing(sent_ns=ping.sent_ns)


def _read_ping(message: review_pb2.ClockPing) -> messages.ClockPing:
    return messages.ClockPing(message.sent_ns)


def _pong(pong: messages.ClockPong) -> review_pb2.ClockPong:
    return review_pb2.ClockPong(ping_sent_ns=pong.ping_sent_ns, received_ns=pong.received_ns, sent_ns=pong.sent_ns)


def _read_pong(message: review_pb2.ClockPong) -> messages.ClockPong:
    return messages.ClockPong(message.ping_sent_ns, message.received_ns, message.sent_ns)


def _hello(hello: messages.Hello) -> review_pb2.Hello:
    return review_pb2.Hello(
        protocol_version=hello.protocol_version,
        device=hello.device,
        epoch=hello.epoch,
        task=hello.task,
        profiles=hello.profiles,
        models=hello.models,
        ping=_ping(hello.ping) if hello.ping else None,
    )


def _read_hello(message: review_pb2.Hello) -> messages.Hello:
    """Only bounded here: the session refuses versions, tasks and profiles in words of its own."""
    check = FieldCheck("Hello", ProtocolError)
    check.count("profiles", len(message.profiles), 0, limits.MAX_PROFILES)
    check.count("models", len(message.models), 0, limits.MAX_MODELS)
    texts = [message.device, message.epoch, message.task, *message.profiles, *message.models]
    check.count("text", max(map(len, [*texts, *message.models.values()])), 0, limits.MAX_VERSION)
    return messages.Hello(
        message.device,
        message.epoch,
        message.task,
        tuple(message.profiles),
        dict(message.models),
        _read_ping(message.ping) if message.HasField("ping") else None,
        message.protocol_version,
    )


def _welcome(welcome: messages.Welcome) -> review_pb2.Welcome:
    return review_pb2.Welcome(
        protocol_version=welcome.protocol_version,
        profiles=welcome.profiles,
        last_acknowledged=item_to_proto(welcome.last_acknowledged) if welcome.last_acknowledged else None,
        window=welcome.window,
        pong=_pong(welcome.pong) if welcome.pong else None,
    )


def _read_welcome(message: review_pb2.Welcome) -> messages.Welcome:
    acknowledged = message.HasField("last_acknowledged")
    return messages.Welcome(
        tuple(message.profiles),
        message.window,
        item_from_proto(message.last_acknowledged, ProtocolError) if acknowledged else None,
        _read_pong(message.pong) if message.HasField("pong") else None,
        message.protocol_version,
    )


def _submission(submission: messages.Submission) -> review_pb2.Submission:
    evidence = _parse(perception_pb2.Evidence, submission.blob)
    return review_pb2.Submission(
        evidence=evidence,
        deadline_ms=submission.deadline_ms,
        priority=submission.priority,
        traceparent=str(submission.trace or ""),
    )


def _read_submission(message: review_pb2.Submission) -> messages.Submission:
    item = item_from_proto(message.evidence.item, ProtocolError)
    check = FieldCheck(f"submission of {item}", ProtocolError)
    check.number("deadline_ms", message.deadline_ms, 0, limits.MAX_DEADLINE_MS)
    blob = message.evidence.SerializeToString(deterministic=True)
    trace = TraceContext.parse(message.traceparent)
    return messages.Submission(item, blob, message.deadline_ms, message.priority, trace)


def _refusal(refusal: messages.Refusal) -> review_pb2.Refusal:
    status = status_of(refusal.error, retry_after_s=refusal.retry_after_s)
    if refusal.state is ItemState.EXPIRED:
        status.code = _EXPIRED_CODE
    return review_pb2.Refusal(
        item=item_to_proto(refusal.item),
        status=status,
        retriable=refusal.retriable,
        state=refusal.state.value if refusal.state else "",
    )


def _read_refusal(message: review_pb2.Refusal) -> messages.Refusal:
    item = item_from_proto(message.item, ProtocolError)
    check = FieldCheck(f"refusal of {item}", ProtocolError)
    final = {ItemState.QUARANTINED.value, ItemState.EXPIRED.value, ItemState.SHED.value}
    if message.retriable == (message.state in final):
        check.fail("state", f"is {message.state[: limits.MAX_NAME]!r} with retriable {message.retriable}")
    state = None if message.retriable else ItemState(message.state)
    return messages.Refusal(item, error_of(message.status), retry_after_of(message.status), state)


def _pixel_request(request: messages.PixelRequest) -> review_pb2.PixelRequest:
    return review_pb2.PixelRequest(item=item_to_proto(request.item), timeout_ms=request.timeout_ms)


def _read_pixel_request(message: review_pb2.PixelRequest) -> messages.PixelRequest:
    return messages.PixelRequest(item_from_proto(message.item, ProtocolError), message.timeout_ms)


def _pixel_answer(answer: messages.PixelAnswer) -> review_pb2.PixelAnswer:
    message = answer_message(answer.kept, answer.item)
    message.item.CopyFrom(item_to_proto(answer.item))
    return message


def _read_pixel_answer(message: review_pb2.PixelAnswer) -> messages.PixelAnswer:
    item = item_from_proto(message.item, ProtocolError)
    faults: list[EvidenceError] = []

    def read(name: str, from_proto: Callable[[Any, ItemId], Lane]) -> Lane | None:
        try:
            return from_proto(getattr(message, name), item) if message.HasField(name) else None  # type: ignore[arg-type]
        except EvidenceError as fault:
            faults.append(fault)
            return None

    crop = read("pixels", crop_from_proto)
    points, sound = read("points", points_from_proto), read("sound", sound_from_proto)
    return messages.PixelAnswer(item, crop, faults[0] if faults else None, points, sound)


def _ledger(report: messages.LedgerReport) -> review_pb2.LedgerReport:
    counts = report.counts
    items = {state.value: number for state, number in counts.items.items()}
    return review_pb2.LedgerReport(samples=counts.samples, gaps=counts.gaps, items=items)


def _read_ledger(message: review_pb2.LedgerReport) -> messages.LedgerReport:
    check = FieldCheck("LedgerReport", ProtocolError)
    for name, number in (("samples", message.samples), ("gaps", message.gaps), *message.items.items()):
        check.number(name[: limits.MAX_NAME], number, 0, _MAX_COUNT)
    known = {state.value: state for state in ItemState}
    if unknown := set(message.items) - set(known):
        check.fail("items", f"has the unknown state {min(unknown)[: limits.MAX_NAME]!r}")
    items = {known[name]: number for name, number in message.items.items()}
    return messages.LedgerReport(LedgerCounts(message.samples, message.gaps, items))


def _goodbye(goodbye: messages.Goodbye) -> review_pb2.Goodbye:
    return review_pb2.Goodbye(reason=goodbye.reason[: limits.MAX_TEXT])


def _read_goodbye(message: review_pb2.Goodbye) -> messages.Goodbye:
    return messages.Goodbye(message.reason[: limits.MAX_TEXT])


_DEVICE_WRITERS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    messages.Hello: ("hello", _hello),
    messages.Submission: ("submission", _submission),
    messages.PixelAnswer: ("pixels", _pixel_answer),
    messages.ClockPing: ("ping", _ping),
    messages.LedgerReport: ("ledger", _ledger),
    messages.Goodbye: ("goodbye", _goodbye),
}
_DEVICE_READERS: dict[str | None, Callable[[Any], messages.DeviceMessage]] = {
    "hello": _read_hello,
    "submission": _read_submission,
    "pixels": _read_pixel_answer,
    "ping": _read_ping,
    "ledger": _read_ledger,
    "goodbye": _read_goodbye,
}
_SERVICE_WRITERS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    messages.Welcome: ("welcome", _welcome),
    Verdict: ("verdict", verdict_to_proto),
    messages.Refusal: ("refusal", _refusal),
    messages.PixelRequest: ("pixels", _pixel_request),
    messages.ClockPong: ("pong", _pong),
    messages.Draining: ("draining", lambda _: review_pb2.Draining()),
}
_SERVICE_READERS: dict[str | None, Callable[[Any], messages.ServiceMessage]] = {
    "welcome": _read_welcome,
    "verdict": verdict_from_proto,
    "refusal": _read_refusal,
    "pixels": _read_pixel_request,
    "pong": _read_pong,
    "draining": lambda _: messages.Draining(),
}
