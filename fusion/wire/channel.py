"""Channels and servers: message limits, keepalive that the binary really reads, TLS from files.

gRPC ignores options it does not know. The server's permission for pings is called
`grpc.http2.min_ping_interval_without_data_ms`; with the similar name most examples use, a client that keeps an
idle stream alive is cut off. `grpc.so_reuseport` is off so that a port in use is an error.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import grpc
import grpc.aio

from fusion.config import Settings
from fusion.errors import ConfigError, UnavailableError
from fusion.wire.limits import MAX_MESSAGE_BYTES

KEEPALIVE_MS = 15_000
KEEPALIVE_TIMEOUT_MS = 10_000
MAX_STREAMS_PER_CONNECTION = 128

Options = list[tuple[str, int | str]]


class ClientTls(Settings):
    """A device's TLS files (PEM): the authority that signed the service, and the device's own certificate for mTLS."""

    authority: Path
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""


class ServerTls(Settings):
    """The service's TLS files (PEM); with `client_ca` every device must show a certificate that it signed."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


def client_options(server_name: str = "") -> Options:
    """Channel options of a device; `server_name` is the name in the certificate when it is not the host's."""
    options = [
        *_both_sides(),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]
    return [*options, ("grpc.ssl_target_name_override", server_name)] if server_name else options


def server_options() -> Options:
    """Server options of the service."""
    return [
        *_both_sides(),
        ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 3),
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
        ("grpc.so_reuseport", 0),
    ]


def open_channel(address: str, tls: ClientTls | None = None) -> grpc.aio.Channel:
    """A channel to `address` (HOST:PORT); it connects when first used. Raises `ConfigError` for unusable TLS files."""
    if tls is None:
        return grpc.aio.insecure_channel(address, options=client_options())
    return grpc.aio.secure_channel(address, channel_credentials(tls), options=client_options(tls.server_name))


def channel_credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    """Credentials from a device's files; raises `ConfigError` naming the file that cannot be used."""
    if (tls.certificate is None) != (tls.key is None):
        raise ConfigError("tls: 'certificate' and 'key' go together; give both or none")
    authority = _authority(tls.authority)
    if tls.certificate is None or tls.key is None:
        return grpc.ssl_channel_credentials(authority)
    certificate, key = _pair(tls.certificate, tls.key)
    return grpc.ssl_channel_credentials(authority, key, certificate)


def server_credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """Credentials from the service's files; raises `ConfigError` naming the file that cannot be used."""
    certificate, key = _pair(tls.certificate, tls.key)
    authority = _authority(tls.client_ca) if tls.client_ca else None
    return grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=authority is not None)


def bind(server: grpc.aio.Server, address: str, tls: ServerTls | None = None) -> int:
    """Take the port of `address` (0 for any) and return it; raises `UnavailableError` when it is in use."""
    credentials = server_credentials(tls) if tls else None
    _try_port(address)
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except (RuntimeError, ValueError) as error:
        raise UnavailableError(f"cannot listen on {address}: {error}") from None


def _try_port(address: str) -> None:
    """A plain socket tries the port first: gRPC writes to stderr, past its caller, when the port is in use."""
    host, _, port = address.rpartition(":")
    try:
        place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        with socket.socket(place[0], socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(place[4])
    except (OSError, OverflowError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnavailableError(f"cannot listen on {address}: {reason}") from None


def _both_sides() -> Options:
    return [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    found = _read(certificate), _read(key)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError):
        raise ConfigError(f"tls: {certificate} and {key} are not a PEM certificate and its unencrypted key") from None
    return found


def _authority(path: Path) -> bytes:
    found = _read(path)
    try:
        ssl.create_default_context(cafile=str(path))
    except (ssl.SSLError, OSError):
        raise ConfigError(f"tls: {path} is not a PEM certificate of an authority") from None
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"tls: {path}: cannot be read ({error.strerror})") from None
