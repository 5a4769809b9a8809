"""One table between the exception tree and gRPC statuses, both ways.

An error crosses the wire as a google.rpc.Status: its code for whoever knows only gRPC, an ErrorInfo naming our
class, and a RetryInfo when it is worth trying again. Without ErrorInfo (gRPC's own errors) the code decides.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from fusion.errors import (
    ConfigError,
    DamagedError,
    EvidenceError,
    FusionError,
    InputError,
    ModelError,
    OverloadedError,
    PartialError,
    ProtocolError,
    RecordingError,
    SensorError,
    SpoolError,
    UnavailableError,
    UnknownProfileError,
)
from fusion.wire.limits import MAX_RETRY_S, MAX_TEXT

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "fusion-stack"
DEFAULT_RETRY_S = 1.0

_CODES: dict[type[FusionError], grpc.StatusCode] = {
    UnknownProfileError: grpc.StatusCode.FAILED_PRECONDITION,
    EvidenceError: grpc.StatusCode.INVALID_ARGUMENT,
    RecordingError: grpc.StatusCode.INVALID_ARGUMENT,
    InputError: grpc.StatusCode.INVALID_ARGUMENT,
    OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    SensorError: grpc.StatusCode.UNAVAILABLE,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    ProtocolError: grpc.StatusCode.FAILED_PRECONDITION,
    ConfigError: grpc.StatusCode.INTERNAL,
    ModelError: grpc.StatusCode.INTERNAL,
    SpoolError: grpc.StatusCode.INTERNAL,
    DamagedError: grpc.StatusCode.UNKNOWN,
    PartialError: grpc.StatusCode.UNKNOWN,
    FusionError: grpc.StatusCode.UNKNOWN,
}
_CLASS_OF_NAME = {kind.__name__: kind for kind in _CODES}
_CLASS_OF_CODE: dict[grpc.StatusCode, type[FusionError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: EvidenceError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    **dict.fromkeys(
        (
            grpc.StatusCode.FAILED_PRECONDITION,
            grpc.StatusCode.PERMISSION_DENIED,
            grpc.StatusCode.UNAUTHENTICATED,
            grpc.StatusCode.UNIMPLEMENTED,
            grpc.StatusCode.ABORTED,
            grpc.StatusCode.ALREADY_EXISTS,
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.OUT_OF_RANGE,
        ),
        ProtocolError,
    ),
}
_CODE_OF_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
_TOO_LARGE = "larger than max"
"""What gRPC itself says with RESOURCE_EXHAUSTED about a message over the cap; trying again cannot help."""


def code_of(error: FusionError) -> grpc.StatusCode:
    """The gRPC code an error is sent with."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def status_of(
    error: FusionError, *, retry_after_s: float | None = None, code: grpc.StatusCode | None = None
) -> status_pb2.Status:
    """The status an error is sent as; `retry_after_s` defaults to the error's own, `code` to the table's."""
    if isinstance(error, OverloadedError) and retry_after_s is None:
        retry_after_s = error.retry_after_s
    status = status_pb2.Status(code=(code or code_of(error)).value[0], message=str(error)[:MAX_TEXT])
    name = next(kind.__name__ for kind in type(error).__mro__ if kind in _CODES)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=name, domain=DOMAIN))
    if retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(max(0, round(retry_after_s * 1e9)))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def retry_after_of(status: status_pb2.Status) -> float | None:
    """Seconds of the status's RetryInfo, in 0..`MAX_RETRY_S`; None when it has none that can be read."""
    info = _detail(status, error_details_pb2.RetryInfo)
    return None if info is None else min(MAX_RETRY_S, max(0, info.retry_delay.ToNanoseconds()) / 1e9)


def error_of(status: status_pb2.Status) -> FusionError:
    """The error a status stands for."""
    code = _CODE_OF_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
    message = " ".join(status.message.split()) or code.name.lower()
    kind = _named_class(status) or _CLASS_OF_CODE.get(code, UnavailableError)
    if kind is not OverloadedError:
        return kind(message)
    if _TOO_LARGE in message:
        return EvidenceError(f"the peer refused a message over its cap ({message})")
    delay = retry_after_of(status)
    return OverloadedError(message, retry_after_s=DEFAULT_RETRY_S if delay is None else delay)


def error_of_call(fault: BaseException) -> FusionError:
    """The error behind what a gRPC call raised, grpc.aio's `InvalidStateError` for a dead peer among them."""
    if isinstance(fault, FusionError):
        return fault
    if isinstance(fault, grpc.aio.AioRpcError):
        return error_of(_status_of_call(fault))
    if isinstance(fault, asyncio.InvalidStateError | grpc.aio.UsageError | grpc.aio.InternalError):
        return UnavailableError(f"the stream to the peer broke ({type(fault).__name__})")
    raise fault


def _status_of_call(fault: grpc.aio.AioRpcError) -> status_pb2.Status:
    for key, value in fault.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break
    return status_pb2.Status(code=fault.code().value[0], message=fault.details() or "")


def _named_class(status: status_pb2.Status) -> type[FusionError] | None:
    info = _detail(status, error_details_pb2.ErrorInfo)
    return _CLASS_OF_NAME.get(info.reason) if info is not None and info.domain == DOMAIN else None


def _detail(status: status_pb2.Status, kind: Any) -> Any:
    """The status's first detail of the message class `kind`; None without one, and where its bytes are none."""
    for detail in status.details:
        if detail.Is(kind.DESCRIPTOR):
            found = kind()
            try:
                detail.Unpack(found)
            except DecodeError:
                return None
            return found
    return None
