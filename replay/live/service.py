"""What a running review service says of itself before anything is sent: gRPC's standard health protocol."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fusion.wire.channel import ClientTls, channel_credentials, client_options
from fusion.wire.service import SERVICE_NAME

ANSWER_S = 5.0


def health(address: str, tls: ClientTls | None = None, *, timeout_s: float = ANSWER_S) -> str:
    """`serving`, `not serving`, or why that cannot be told. Raises `ConfigError` for unusable TLS files."""
    if tls is None:
        channel = grpc.insecure_channel(address, options=client_options())
    else:
        channel = grpc.secure_channel(address, channel_credentials(tls), options=client_options(tls.server_name))
    with channel:
        try:
            request = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_s)
        except grpc.RpcError as error:
            return f"no answer ({error.code().name.lower().replace('_', ' ')})"
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return name.lower().replace("_", " ")
