"""Why a service cannot be reached: gRPC says UNAVAILABLE for a cable and for a certificate alike; this asks the socket.

An expired, foreign or missing certificate is a state of its own, since waiting does not cure it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import dataclass
from enum import StrEnum

from fusion.wire.channel import ClientTls

PROBE_S = 3.0
_LISTEN_S = 0.5
_WRONG = "a part of the host's name is empty or too long, or the port is above 65535"


class LinkState(StrEnum):
    """How the uplink stands. Screening goes on in all of them."""

    STARTING = "starting"
    CONNECTED = "connected"
    OFFLINE = "offline"
    IDENTITY = "identity"
    REFUSED = "refused"
    DRAINING = "draining"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The state, and the reason in a few words."""

    state: LinkState
    reason: str


async def diagnose(address: str, tls: ClientTls | None, fault: str) -> Diagnosis:
    """Try the address by hand; `fault` is what the transport said and stands when the socket finds nothing wrong."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not port.isdecimal():
        return Diagnosis(LinkState.OFFLINE, f"{address!r} is not of the form host:port")
    try:
        async with asyncio.timeout(PROBE_S):
            return await _probe(host, int(port), tls, fault)
    except TimeoutError:
        return Diagnosis(LinkState.OFFLINE, "the address does not answer")
    except ssl.SSLCertVerificationError as error:
        return Diagnosis(LinkState.IDENTITY, f"the service's certificate is not accepted: {error.verify_message}")
    except ssl.SSLError as error:
        return Diagnosis(LinkState.IDENTITY, f"the TLS handshake fails: {_plain(error)}")
    except (OSError, OverflowError, UnicodeError) as error:
        return Diagnosis(LinkState.OFFLINE, _why_unreachable(address, error))


def _why_unreachable(address: str, error: Exception) -> str:
    if not isinstance(error, OSError):
        return f"{address!r} is no address: {_WRONG}"
    plain = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
    return plain.lower()


async def _probe(host: str, port: int, tls: ClientTls | None, fault: str) -> Diagnosis:
    if tls is None:
        _close(await asyncio.open_connection(host, port))
        if await _speaks_tls(host, port):
            return Diagnosis(LinkState.IDENTITY, "the service speaks TLS and uplink.tls is not set")
        return Diagnosis(LinkState.OFFLINE, fault)
    _close(await asyncio.open_connection(host, port))
    context = ssl.create_default_context(cafile=str(tls.authority))
    context.set_alpn_protocols(["h2"])
    if tls.certificate and tls.key:
        context.load_cert_chain(tls.certificate, tls.key)
    streams = await asyncio.open_connection(host, port, ssl=context, server_hostname=tls.server_name or host)
    try:
        # In TLS 1.3 a server's complaint about our certificate comes only after the handshake.
        async with asyncio.timeout(_LISTEN_S):
            first = await streams[0].read(1)
    except TimeoutError:
        first = b"-"
    finally:
        _close(streams)
    if not first:
        return Diagnosis(LinkState.IDENTITY, "the service ends the connection after the TLS handshake")
    return Diagnosis(LinkState.OFFLINE, fault)


async def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_LISTEN_S):
            _close(await asyncio.open_connection(host, port, ssl=context))
    except (OSError, TimeoutError):
        return False
    return True


def _close(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    """At once: a TLS connection that is closed in order waits for the peer to agree."""
    streams[1].transport.abort()


def _plain(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
