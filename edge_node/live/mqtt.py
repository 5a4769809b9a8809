"""Triggers by MQTT: each message to the topic `mqtt://broker:1883/TOPIC` is a part."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from edge_node.live.drivers import WAIT_S, address, library, query, shown
from fusion.errors import ConfigError, SensorError

PORTS = {"mqtt": 1883, "mqtts": 8883}
OPEN_S = 5.0
"""How long a broker may take to answer."""
KEEPALIVE_S = 5
"""A broker that is gone without a word is missed after twice that."""


class MqttTrigger:
    """Subscribes with QoS 1 in a session of its own. What was retained, or published while it was away, is no part."""

    def __init__(self, url: str, now_ns: Callable[[], int], paho: Any) -> None:
        self._url, self._now_ns, self._closed = url, now_ns, threading.Event()
        self._arrived: deque[int] = deque()
        self._refused, self._subscribed = "", False
        self._topic = _topic(url)
        self._client = client = paho.Client(paho.CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        client.on_connect, client.on_subscribe, client.on_message = self._connected, self._answered, self._heard
        client.connect_timeout = OPEN_S
        parts = urlsplit(url)
        if parts.username is not None:
            client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        authority = query(url, ("ca",)).get("ca")
        if authority and parts.scheme != "mqtts":
            raise ConfigError(f"{shown(url)}: ca is for mqtts://")
        if parts.scheme == "mqtts":
            _use_tls(client, url, authority)

    @classmethod
    def open(cls, url: str, now_ns: Callable[[], int]) -> Self:
        """Connect and subscribe. Raises `SensorError` where the broker does not answer or refuses."""
        host, port = address(url, PORTS[urlsplit(url).scheme])
        paho = library("paho.mqtt.client", url)
        try:
            trigger = cls(url, now_ns, paho)
            trigger._client.connect(host, port, keepalive=KEEPALIVE_S)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "no answer"
            raise SensorError(f"{shown(url)}: no broker there ({reason.lower()})") from None
        try:
            trigger._subscribe()
        except SensorError:
            trigger._client.disconnect()
            raise
        return trigger

    def events(self) -> Iterator[int]:
        """See `Trigger`."""
        try:
            while not self._closed.is_set():
                self._step()
                while self._arrived:
                    yield self._arrived.popleft()
        finally:
            self._client.disconnect()

    def close(self) -> None:
        """See `Trigger`."""
        self._closed.set()

    def _subscribe(self) -> None:
        ends = time.monotonic() + OPEN_S
        while not self._subscribed:
            self._step()
            if self._refused or time.monotonic() > ends:
                raise SensorError(f"{shown(self._url)}: {self._refused or 'the broker does not answer'}")

    def _step(self) -> None:
        """Let the client read what is there, and say that it is alive."""
        if code := self._client.loop(timeout=WAIT_S):
            reason = self._refused or f"broke off ({code.name.removeprefix('MQTT_ERR_').lower()})"
            raise SensorError(f"{shown(self._url)}: {reason}")

    def _connected(self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._refused = f"the broker refuses ({str(reason).lower()})"
        else:
            client.subscribe(self._topic, qos=1)

    def _answered(self, _client: Any, _data: Any, _message: Any, reasons: list[Any], _properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._refused = f"the broker lets nobody read {self._topic!r} like that"
        self._subscribed = not self._refused

    def _heard(self, _client: Any, _data: Any, message: Any) -> None:
        if not message.retain:
            self._arrived.append(self._now_ns())


def _use_tls(client: Any, url: str, authority: str | None) -> None:
    try:
        client.tls_set(authority)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        named = f"ca={authority} cannot be used ({reason}); give a PEM file with the broker's authority"
        raise ConfigError(f"{shown(url)}: {f'no TLS here ({reason})' if authority is None else named}") from None


def _topic(url: str) -> str:
    parts = urlsplit(url)
    topic = unquote(parts.path.removeprefix("/"))
    if not topic or not parts.hostname:
        raise ConfigError(f"{shown(url)}: give {parts.scheme}://BROKER/TOPIC")
    if "#" in url:
        raise ConfigError(f"{shown(url)}: write # in a topic as %23")
    return topic
