"""What a running review service says before anything is sent to it: whether it serves, and what it has answered."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fusion.errors import ProtocolError, UnavailableError
from fusion.wire.channel import ClientTls, channel_credentials, client_options, open_channel
from fusion.wire.client import ReviewClient
from fusion.wire.messages import Goodbye, Hello, Welcome
from fusion.wire.service import SERVICE_NAME

ANSWER_S = 5.0
_ANEW = ("grpc.use_local_subchannel_pool", 1)
"""A connection of its own: one that failed a moment ago would be waited for, as a back-off says, and not tried."""


def health(address: str, tls: ClientTls | None = None, *, timeout_s: float = ANSWER_S) -> str:
    """`serving`, `not serving`, or why gRPC's health protocol does not tell.

    Raises `ConfigError` for unusable TLS files.
    """
    options = [*client_options(tls.server_name if tls else ""), _ANEW]
    if tls is None:
        channel = grpc.insecure_channel(address, options=options)
    else:
        channel = grpc.secure_channel(address, channel_credentials(tls), options=options)
    with channel:
        try:
            request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_s)
        except grpc.RpcError as error:
            return f"no answer ({error.code().name.lower().replace('_', ' ')})"
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return name.lower().replace("_", " ")


def knows(address: str, tls: ClientTls | None, hello: Hello, *, timeout_s: float = ANSWER_S) -> bool:
    """Whether the service has answered an item of this device and epoch before.

    Raises `UnavailableError` when it is not there, `FusionError` when it refuses such a device.
    """
    return asyncio.run(_knows(address, tls, hello, timeout_s))


async def _knows(address: str, tls: ClientTls | None, hello: Hello, timeout_s: float) -> bool:
    channel = open_channel(address, tls)
    try:
        async with asyncio.timeout(timeout_s):
            stream = ReviewClient(channel).exchange()
            await stream.send(hello)
            welcome = await stream.receive()
            if not isinstance(welcome, Welcome):
                raise ProtocolError(f"{address}: no Welcome came after Hello")
            await stream.send(Goodbye("asked"))
            await stream.finish()
            stream.cancel()
    except TimeoutError:
        raise UnavailableError(f"{address}: no welcome within {timeout_s:g} s") from None
    finally:
        await channel.close()
    return welcome.last_acknowledged is not None
