"""The Review service on grpc.aio: what a handler must offer, and how its errors become statuses."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import grpc
import grpc.aio

from fusion.errors import FusionError
from fusion.types import Verdict
from fusion.wire.envelope import (
    read_device_message,
    read_review_request,
    write_review_response,
    write_service_message,
)
from fusion.wire.messages import DeviceMessage, ServiceMessage, Submission
from fusion.wire.status import DETAILS_KEY, code_of, status_of
from fusion.wire.v1 import review_pb2

SERVICE_NAME: str = review_pb2.DESCRIPTOR.services_by_name["Review"].full_name

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who calls: `identities` are the names in its certificate (None without mTLS), `seconds_left` its deadline."""

    address: str
    identities: frozenset[str] | None
    seconds_left: float | None


class ReviewHandler(Protocol):
    """What serves the two methods. `FusionError`s become statuses; anything else is logged and INTERNAL."""

    async def exchange(
        self,
        messages: AsyncIterator[DeviceMessage],
        send: Callable[[ServiceMessage], Awaitable[None]],
        peer: Peer,
    ) -> None:
        """Serve one stream until it ends. `messages` raises `ProtocolError` on one that cannot be read."""

    async def review_item(self, submission: Submission, peer: Peer) -> Verdict:
        """Answer one item."""


def add_review_service(server: grpc.aio.Server, handler: ReviewHandler) -> None:
    """Serve `handler` on `server`."""

    async def exchange(requests: AsyncIterator[bytes], context: Any) -> None:
        async def send(message: ServiceMessage) -> None:
            await context.write(write_service_message(message))

        try:
            await handler.exchange(_read_all(requests), send, _peer(context))
        except Exception as error:  # noqa: BLE001 every failure becomes a status, once, here
            await _abort(context, error)

    async def review_item(request: bytes, context: Any) -> bytes:
        try:
            return write_review_response(await handler.review_item(read_review_request(request), _peer(context)))
        except Exception as error:  # noqa: BLE001 every failure becomes a status, once, here
            await _abort(context, error)

    # No serialisers: gRPC would log what they raise and go on with None.
    methods: dict[str, Any] = {
        "Exchange": grpc.stream_stream_rpc_method_handler(exchange),
        "ReviewItem": grpc.unary_unary_rpc_method_handler(review_item),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, methods),))


async def _read_all(requests: AsyncIterator[bytes]) -> AsyncIterator[DeviceMessage]:
    async for request in requests:
        yield read_device_message(request)


def _peer(context: Any) -> Peer:
    names = context.auth_context()
    proven = None
    if context.peer_identity_key() is not None:
        listed = [*names.get("x509_common_name", ()), *names.get("x509_subject_alternative_name", ())]
        proven = frozenset(name.decode("utf-8", "replace") for name in listed)
    return Peer(context.peer(), proven, context.time_remaining())


async def _abort(context: Any, error: Exception) -> NoReturn:
    if isinstance(error, FusionError):
        status = status_of(error)
        details = ((DETAILS_KEY, status.SerializeToString()),)
        await context.abort(code_of(error), status.message, details)
    _log.error("a defect in the service", exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, "the service failed; its log says why")
    raise AssertionError("abort returned")
