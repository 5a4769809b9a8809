"""An MQTT 3.1.1 broker for tests: as much of it as a subscriber meets, and it can be killed."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP = 1, 2, 3, 4, 8, 9, 12, 13
_REFUSED = 128


@dataclass
class Broker:
    """Listens on `port`. `login` is the only user let in (None: anybody); topics in `forbidden` are refused."""

    port: int
    login: tuple[str, str] | None = None
    forbidden: tuple[str, ...] = ()
    mute: bool = False
    tls: ssl.SSLContext | None = None
    retained: dict[str, bytes] = field(default_factory=dict)
    acknowledged: int = 0
    pings: int = 0
    subscribed: list[tuple[socket.socket, str]] = field(default_factory=list)

    def __enter__(self) -> Broker:
        self._clients: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._server, *self._clients):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def publish(self, topic: str, payload: bytes = b"here") -> None:
        for client, wanted in list(self.subscribed):
            if wanted == topic:
                self._publish(client, topic, payload)

    def _publish(self, client: socket.socket, topic: str, payload: bytes, *, retain: bool = False) -> None:
        name = topic.encode()
        body = struct.pack(">H", len(name)) + name + struct.pack(">H", 7) + payload  # QoS 1, packet 7
        client.sendall(bytes([PUBLISH << 4 | 2 | retain, len(body)]) + body)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
                if self.tls:
                    client = self.tls.wrap_socket(client, server_side=True)
            except ssl.SSLError:
                continue
            except OSError:
                return
            self._clients.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            while True:
                kind, body = _packet(client)
                if not self.mute:
                    self._answer(client, kind, body)
        except (OSError, EOFError):
            client.close()
        for pair in [pair for pair in self.subscribed if pair[0] is client]:
            self.subscribed.remove(pair)  # in place: another client may be coming in

    def _answer(self, client: socket.socket, kind: int, body: bytes) -> None:
        if kind == CONNECT:
            refused = self.login is not None and self.login != _login(body)
            client.sendall(bytes([CONNACK << 4, 2, 0, 5 if refused else 0]))
            if refused:
                raise EOFError
        elif kind == SUBSCRIBE:
            topic, _ = _text(body, 2)
            self.subscribed.append((client, topic))  # before it is told: who is told publishes at once
            client.sendall(bytes([SUBACK << 4, 3, *body[:2], _REFUSED if topic in self.forbidden else body[-1]]))
            if topic in self.retained:
                self._publish(client, topic, self.retained[topic], retain=True)
        elif kind == PUBACK:
            self.acknowledged += 1
        elif kind == PINGREQ:
            self.pings += 1
            client.sendall(bytes([PINGRESP << 4, 0]))


def _packet(client: socket.socket) -> tuple[int, bytes]:
    head, length, shift = _exactly(client, 1)[0], 0, 0
    while True:
        byte = _exactly(client, 1)[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return head >> 4, _exactly(client, length)


def _exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = client.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _text(body: bytes, start: int) -> tuple[str, int]:
    (length,) = struct.unpack_from(">H", body, start)
    return body[start + 2 : start + 2 + length].decode(), start + 2 + length


def _login(body: bytes) -> tuple[str, str] | None:
    if not body[7] & 0xC0:  # flags after the protocol's name and level
        return None
    _, end = _text(body, 10)
    user, end = _text(body, end)
    return user, _text(body, end)[0]


def restarted(broker: Broker) -> Broker:
    """The same broker on the same port, once the port is free."""
    ends = time.monotonic() + 5
    while True:
        try:
            return Broker(broker.port, broker.login).__enter__()
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)
