"""Triggers by MQTT: the paho client against a broker on a real port."""

from __future__ import annotations

import itertools
import shutil
import ssl
import subprocess
import threading
import time

import pytest

from edge_node.live.mqtt import MqttTrigger
from edge_node.live.triggers import trigger_class
from fusion.errors import ConfigError, SensorError

from .broker import Broker, restarted
from .conftest import picture, sweep, until

pytest.importorskip("paho.mqtt.client", reason="needs paho-mqtt: install fusion-stack[live]")
TOPIC = "line-3/arrived"


@pytest.fixture
def broker(free_port):
    with Broker(free_port) as running:
        yield running


def url_of(broker: Broker, topic: str = TOPIC, login: str = "", more: str = "") -> str:
    return f"mqtt{'s' if broker.tls else ''}://{login}127.0.0.1:{broker.port}/{topic}{more}"


def reason_not_to_open(url: str) -> str:
    with pytest.raises((SensorError, ConfigError)) as caught:
        MqttTrigger.open(url, time.time_ns)
    return str(caught.value)


def first(trigger: MqttTrigger, publish) -> int:
    """When the first part was there, after `publish` was called."""
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.extend(itertools.islice(trigger.events(), 1)))
    reader.start()
    publish()
    reader.join(60)
    trigger.close()
    return found[0]


def test_each_message_is_a_part_at_the_time_it_arrived(broker):
    trigger = MqttTrigger.open(url_of(broker), time.time_ns)
    before = time.time_ns()
    assert before <= first(trigger, lambda: broker.publish(TOPIC)) <= time.time_ns()
    until(lambda: broker.acknowledged == 1)


def test_both_schemes_are_registered():
    assert trigger_class("mqtt://x/y") is trigger_class("mqtts://x/y") is MqttTrigger


def test_what_was_retained_is_no_part(broker):
    broker.retained[TOPIC] = b"old"
    trigger = MqttTrigger.open(url_of(broker), time.time_ns)
    events = trigger.events()
    until(lambda: trigger._client.loop(0.05) == 0 and broker.acknowledged == 1)
    broker.publish(TOPIC)
    begun = time.time_ns()
    assert next(events) >= begun - 10**9
    assert not trigger._arrived
    assert broker.acknowledged <= 2
    trigger.close()


def test_a_broker_that_is_killed_and_started_again_is_found_again(live, stages, broker):
    source = live(trigger={"url": url_of(broker), "backoff_first_s": 0.01, "backoff_max_s": 0.05, "within_s": 5})
    source.declare("front")
    readings = source.readings(0)
    stages["spin"].script.put(sweep())
    next(readings)
    until(lambda: source.told()["trigger"]["state"] == "streaming")
    broker.__exit__()
    until(lambda: "no broker there (connection refused)" in source.told()["trigger"]["why"])
    assert source.told()["trigger"]["state"] == "failed"
    again = restarted(broker)
    try:
        until(lambda: source.told()["trigger"]["state"] == "streaming")
        assert source.told()["trigger"]["restarts"] >= 1
        again.publish(TOPIC)
        until(lambda: source.told()["trigger"]["frames"] == 1)
        stages["eye"].script.put(picture())
        assert next(readings)[1].sensor == "front"
    finally:
        again.__exit__()


def test_a_broker_that_falls_silent_is_missed(broker, monkeypatch):
    monkeypatch.setattr("edge_node.live.mqtt.KEEPALIVE_S", 1)
    trigger = MqttTrigger.open(url_of(broker), time.time_ns)
    broker.mute = True
    with pytest.raises(SensorError, match=r"arrived: broke off \((keepalive|conn_lost)\)"):
        next(trigger.events())


def test_the_broker_hears_that_the_trigger_lives(broker, monkeypatch):
    monkeypatch.setattr("edge_node.live.mqtt.KEEPALIVE_S", 1)
    trigger = MqttTrigger.open(url_of(broker), time.time_ns)

    def wait() -> None:
        until(lambda: broker.pings >= 2)
        broker.publish(TOPIC)

    assert first(trigger, wait)


def test_user_and_password_are_used_and_not_told(broker):
    broker.login = "line", "s@cret"
    trigger = MqttTrigger.open(url_of(broker, login="line:s%40cret@"), time.time_ns)
    trigger.close()
    told = reason_not_to_open(url_of(broker, login="line:wrong@"))
    assert told == f"mqtt://***@127.0.0.1:{broker.port}/{TOPIC}: the broker refuses (not authorized)"


def test_a_topic_that_may_not_be_read_is_told(broker):
    broker.forbidden = ("secret",)
    assert "the broker lets nobody read 'secret'" in reason_not_to_open(url_of(broker, "secret"))


def test_a_broker_that_does_not_answer_is_told(broker, monkeypatch):
    monkeypatch.setattr("edge_node.live.mqtt.OPEN_S", 0.3)
    broker.mute = True
    assert reason_not_to_open(url_of(broker)).endswith("arrived: the broker does not answer")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mqtt://broker", "mqtt://broker: give mqtt://BROKER/TOPIC"),
        ("mqtt:///topic", "give mqtt://BROKER/TOPIC"),
        ("mqtt://broker/line/#", "write # in a topic as %23"),
        ("mqtt://broker:port/line", "give HOST:PORT"),
        ("mqtt://broker/line?qos=2", "unknown key 'qos'"),
        ("mqtt://broker/line?ca=x.pem", "ca is for mqtts"),
        ("mqtt://no.such.host.invalid/line", "no broker there"),
    ],
)
def test_a_url_that_cannot_be_meant_is_told(url, told):
    assert told in reason_not_to_open(url)


def test_an_authority_that_cannot_be_used_is_told_by_its_file(tmp_path):
    none, wrong = tmp_path / "none.pem", tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    told = reason_not_to_open(f"mqtts://broker/line?ca={none}")
    assert f"ca={none} cannot be used (no such file or directory); give a PEM file" in told
    assert f"ca={wrong} cannot be used (" in reason_not_to_open(f"mqtts://broker/line?ca={wrong}")
    assert "no broker" not in told


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program to make a certificate")
def test_tls_needs_an_authority_that_is_trusted(free_port, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", key, "-out", certificate, "-subj", "/CN=broker", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Broker(free_port, tls=context) as broker:
        assert "certificate verify failed" in reason_not_to_open(url_of(broker))
        trigger = MqttTrigger.open(url_of(broker, more=f"?ca={certificate}"), time.time_ns)
        assert first(trigger, lambda: broker.publish(TOPIC))
