"""Errors keep their class, their text and their retry delay across the wire."""

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from fusion import errors
from fusion.wire.limits import MAX_RETRY_S
from fusion.wire.status import DEFAULT_RETRY_S, DETAILS_KEY, code_of, error_of, error_of_call, retry_after_of, status_of

EVERY = [
    errors.ConfigError("c"),
    errors.InputError("i"),
    errors.RecordingError("r"),
    errors.EvidenceError("e"),
    errors.UnknownProfileError("p"),
    errors.ModelError("m"),
    errors.UnavailableError("u"),
    errors.SensorError("l"),
    errors.OverloadedError("o", retry_after_s=2.5),
    errors.ProtocolError("x"),
    errors.SpoolError("s"),
    errors.DamagedError("d"),
    errors.PartialError("p"),
    errors.FusionError("f"),
]


def test_every_class_of_the_tree_is_tried_here():
    def tree(kind):
        return {kind}.union(*(tree(sub) for sub in kind.__subclasses__() if sub.__module__ == "fusion.errors"))

    assert {type(error) for error in EVERY} == tree(errors.FusionError)


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_an_error_comes_back_as_itself(error):
    back = error_of(status_pb2.Status.FromString(status_of(error).SerializeToString()))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert code_of(error) is not grpc.StatusCode.OK


def test_the_retry_delay_travels():
    status = status_of(errors.OverloadedError("full", retry_after_s=0.125))
    assert retry_after_of(status) == 0.125
    assert error_of(status).retry_after_s == 0.125
    assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert retry_after_of(status_of(errors.ProtocolError("x"))) is None
    assert retry_after_of(status_of(errors.UnknownProfileError("x"), retry_after_s=600)) == 600


@pytest.mark.parametrize(
    ("seconds", "nanos", "heeded"),
    [
        (2**63 - 1, 2**31 - 1, MAX_RETRY_S),
        (601, 0, MAX_RETRY_S),
        (599, 2**31 - 1, MAX_RETRY_S),
        (-(2**63), -1, 0.0),
        (0, -1, 0.0),
        (300, 0, 300.0),
    ],
)
def test_a_peer_puts_nobody_off_for_ever(seconds, nanos, heeded):
    delay = Duration(seconds=seconds, nanos=nanos)
    status = status_of(errors.OverloadedError("full", retry_after_s=1.0))
    status.details[1].Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    assert retry_after_of(status) == error_of(status).retry_after_s == heeded


def test_a_detail_that_is_none_counts_as_absent():
    status = status_of(errors.OverloadedError("full", retry_after_s=0.125))
    for detail in status.details:
        detail.value = b"\xff\xff\xff"
    assert retry_after_of(status) is None
    error = error_of(status)
    assert (type(error), str(error), error.retry_after_s) == (errors.OverloadedError, "full", DEFAULT_RETRY_S)


def test_a_class_of_a_later_version_falls_back_to_its_parent():
    class NewerError(errors.EvidenceError):
        pass

    assert type(error_of(status_of(NewerError("n")))) is errors.EvidenceError


def _call_error(code, details, trailing=()):
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details)


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", errors.UnavailableError),
        (grpc.StatusCode.INTERNAL, "Internal error from Core", errors.UnavailableError),
        (grpc.StatusCode.UNKNOWN, "", errors.UnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", errors.UnavailableError),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", errors.ProtocolError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Bandwidth exhausted", errors.OverloadedError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)", errors.EvidenceError),
    ],
)
def test_grpcs_own_errors_are_told_apart(code, details, kind):
    assert type(error_of_call(_call_error(code, details))) is kind


def test_the_rich_status_of_a_call_is_read_and_a_broken_one_is_not_trusted():
    rich = status_of(errors.UnknownProfileError("profile ab is not served")).SerializeToString()
    error = error_of_call(_call_error(grpc.StatusCode.FAILED_PRECONDITION, "x", [(DETAILS_KEY, rich)]))
    assert type(error) is errors.UnknownProfileError
    broken = _call_error(grpc.StatusCode.UNAVAILABLE, "x", [(DETAILS_KEY, b"\xff\xff")])
    assert type(error_of_call(broken)) is errors.UnavailableError
