"""The device's side of the Review service on grpc.aio; every failure of the transport is a `FusionError`."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from fusion.errors import UnavailableError
from fusion.types import Verdict
from fusion.wire import envelope
from fusion.wire.messages import DeviceMessage, ServiceMessage, Submission
from fusion.wire.service import SERVICE_NAME
from fusion.wire.status import error_of_call

_BROKEN = (grpc.aio.AioRpcError, grpc.aio.UsageError, grpc.aio.InternalError, asyncio.InvalidStateError)


class ReviewClient:
    """Calls of one channel (see `fusion.wire.channel.open_channel`)."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        # No serialisers: gRPC would log what they raise and go on with None.
        self._exchange: Any = channel.stream_stream(f"/{SERVICE_NAME}/Exchange")
        self._review_item: Any = channel.unary_unary(f"/{SERVICE_NAME}/ReviewItem")

    def exchange(self) -> Exchange:
        """Open the stream; send `Hello` first."""
        return Exchange(self._exchange())

    async def review(self, submission: Submission, *, timeout_s: float | None = None) -> Verdict:
        """One item, one verdict. Raises `OverloadedError`, `UnavailableError`, `EvidenceError`, ..."""
        try:
            response = await self._review_item(envelope.write_review_request(submission), timeout=timeout_s)
        except _BROKEN as fault:
            raise error_of_call(fault) from None
        return envelope.read_review_response(response)


class Exchange:
    """One stream. Keep one task in `receive` at all times: answers that were not read when a peer dies are gone.

    A `send` that returned says nothing about delivery; only an answer does.
    """

    def __init__(self, call: Any) -> None:
        self._call = call

    async def send(self, message: DeviceMessage) -> None:
        """Hand a message to the transport; waits while the service is slow to read. Raises `EvidenceError` too."""
        try:
            await self._call.write(envelope.write_device_message(message))
        except _BROKEN as fault:
            raise await self._reason(fault) from None

    async def receive(self) -> ServiceMessage | None:
        """The next message; None when the service ended the stream in order (after `Draining` or our `Goodbye`)."""
        try:
            data = await self._call.read()
        except _BROKEN as fault:
            raise await self._reason(fault) from None
        if data is not grpc.aio.EOF:
            return envelope.read_service_message(data)
        if await self._call.code() is grpc.StatusCode.OK:
            return None
        raise await self._reason(None)

    async def finish(self) -> None:
        """Say that nothing more will be sent."""
        try:
            await self._call.done_writing()
        except _BROKEN as fault:
            raise await self._reason(fault) from None

    def cancel(self) -> None:
        """Drop the stream."""
        self._call.cancel()

    async def _reason(self, fault: BaseException | None) -> Exception:
        """What ended the stream: the call's own status where there is one, else what was raised."""
        if isinstance(fault, grpc.aio.AioRpcError):
            return error_of_call(fault)
        if self._call.done():
            code, details = await self._call.code(), await self._call.details()
            initial, trailing = await self._call.initial_metadata(), await self._call.trailing_metadata()
            return error_of_call(grpc.aio.AioRpcError(code, initial, trailing, details))
        return error_of_call(fault) if fault else UnavailableError("the stream to the service ended without a word")
