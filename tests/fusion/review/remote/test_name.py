"""What may follow `openai:`, and that no error shows a secret."""

import pytest

from fusion.errors import ConfigError
from fusion.review.hub.name import HubName
from fusion.review.remote.name import RemoteName
from fusion.wire.checks import FieldCheck
from fusion.wire.limits import MAX_VERSION


def test_a_full_name():
    called = RemoteName.parse(
        "https://host:8000/v1/#Qwen/Qwen2.5-VL-7B-Instruct?task=yard&side=448&timeout_s=2.5&concurrent=4&retries=0"
    )
    assert (called.url, called.model) == ("https://host:8000/v1", "Qwen/Qwen2.5-VL-7B-Instruct")
    assert (called.side, called.timeout_s, called.concurrent, called.retries) == (448, 2.5, 4, 0)


@pytest.mark.parametrize("path", ["out/cal+1.json", "100%25/cal.json", "a b;c=d.json", "~/größe.json"])
def test_a_path_means_itself(path):
    assert RemoteName.parse(f"http://h/v1#m?calibration={path}&task=yard").calibration == path
    assert HubName.parse(f"somewhere?projector={path}&device=cuda:0").projector == path


@pytest.mark.parametrize("url", ["http://[::1]:8000/v1", "http://h/v1", "https://" + "h" * 80 + ".example/v1"])
@pytest.mark.parametrize("model", ["/models/a b#c", "m" * 300, "ütf"])
def test_the_name_of_a_verdict_is_short_and_plain_and_tells_settings_apart(url, model):
    one = RemoteName.parse(f"{url}#{model}?task=yard")
    FieldCheck("a reviewer", ConfigError).name("name", one.called, MAX_VERSION)
    assert one.called != RemoteName.parse(f"{url}#{model}?task=pcb").called
    assert one.called == RemoteName.parse(f"{url}#{model}?task=yard&retries=7").called


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("http://h/v1", "which model"),
        ("http://h/v1?task=yard", "which model"),
        ("http://h/v1#m", "whose questions"),
        ("ftp://h/v1#m?task=yard", "http://HOST:PORT/v1"),
        ("http://h:99999/v1#m?task=yard", "url"),
        ("http://h/v1?a=b#m?task=yard", "http://HOST:PORT/v1"),
        ("http://h/v1#m?task=yard&side=9", "side"),
        ("http://h/v1#m?task=yard&api_key=hunter2", "api_key"),
        ("http://me:hunter2@h/v1#m?task=yard", "key_env=NAME"),
        ("http://me:hun/hunter2@h/v1#m?task=yard", "url"),
        ("http://me:hunter2@h/v1", "which model"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_without_secrets(argument, said):
    with pytest.raises(ConfigError) as raised:
        RemoteName.parse(argument)
    text = str(raised.value)
    assert said in text
    assert "\n" not in text
    assert text.startswith("reviewer openai:")
    assert "hun" not in text


def test_the_key_comes_from_the_environment_alone(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    plain = RemoteName.parse("http://h/v1#m?task=yard")
    assert plain.key() is None
    monkeypatch.setenv("OPENAI_API_KEY", "a")
    monkeypatch.setenv("MINE", "b\n")
    mine = RemoteName.parse("http://h/v1#m?task=yard&key_env=MINE")
    assert (plain.key(), mine.key()) == ("a", "b")
    monkeypatch.setenv("MINE", "hunter2\nX: y")
    with pytest.raises(ConfigError, match="no header") as raised:
        mine.key()
    assert "hunter2" not in str(raised.value)
    monkeypatch.setenv("MINE", "")
    with pytest.raises(ConfigError, match="MINE holds no key"):
        mine.key()
