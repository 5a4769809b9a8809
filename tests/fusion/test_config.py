"""Configuration errors name the file, the line and what is known."""

import tomllib
from pathlib import Path

import pytest

from fusion.config import HostPort, HostPortOrNone, Settings, from_overrides, load_toml, toml_string
from fusion.errors import ConfigError
from fusion.task import Task, bundled_tasks


class Engine(Settings):
    threads: int = 2
    backend: str = "auto"


class Edge(Settings):
    device: str
    engine: Engine = Engine()


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "edge.toml"
    path.write_text(text)
    return path


def test_values_and_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, 'device = "cart"\n[engine]\nthreads = 1\n')
    settings = load_toml(path, Edge, ["engine.threads=4", "engine.backend=openvino"])
    assert settings == Edge(device="cart", engine=Engine(threads=4, backend="openvino"))


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        ('device = "a"\n[engine]\nthread = 1\n', [], "edge.toml:3: unknown key 'engine.thread'; known keys: ba"),
        ('device = "a"\n[engine]\nthreads = "x"\n', [], "edge.toml:3: 'engine.threads' = 'x'"),
        ("[engine]\nthreads = 1\n", [], "edge.toml: key 'device' is missing"),
        ('device = "a"\n', ["engine.threads=many"], "--set engine.threads=many: 'engine.threads' = 'many'"),
        ('device = "a"\n', ["engine"], "--set engine: not of the form key=value"),
        ("device = \n", [], "edge.toml: not valid TOML"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, text: str, overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_toml(write(tmp_path, text), Edge, overrides)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


class Link(Settings):
    address: HostPort = "127.0.0.1:7447"
    listen: HostPortOrNone = ""


@pytest.mark.parametrize("address", ["h:0", "127.0.0.1:65535", "[::1]:7447", "edge.local:1"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    assert Link(address=address, listen=address).listen == address
    assert Link().listen == ""


@pytest.mark.parametrize(
    "address", ["h:65536", "h:99999", "h:123456", "h", ":80", "h:", "h:x", "a b:80", "h:80 ", "h:-1"]
)
def test_a_port_beyond_the_last_is_refused_with_what_to_give(address: str) -> None:
    for key in ("address", "listen"):
        with pytest.raises(ConfigError) as caught:
            from_overrides(Link, [f"{key}={address!r}"])
        assert f"'{key}' = " in str(caught.value)
        assert str(caught.value).endswith("give HOST:PORT, the port from 0 to 65535")


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_toml(tmp_path / "none.toml", Edge)


def test_defaults_from_overrides_alone() -> None:
    assert from_overrides(Engine, ["threads=3"]).threads == 3
    with pytest.raises(ConfigError, match="--set threads=x"):
        from_overrides(Engine, ["threads=x"])


@pytest.mark.parametrize(
    "text", ["2024-06-01", "1", "true", "inf", 'a"b', "a\\b", " a ", "a\nb\x7f", "caf\u00e9 \U0001f69a", ""]
)
def test_any_text_stays_that_text(text: str) -> None:
    assert tomllib.loads(f"value = {toml_string(text)}") == {"value": text}


def test_bundled_tasks_load_and_differ() -> None:
    assert bundled_tasks() == ["kitti", "nuscenes", "pcb", "yard"]
    yard, pcb = Task.load("yard"), Task.load("pcb")
    assert yard.prompt_sha256 != pcb.prompt_sha256
    assert [slot.name for slot in yard.slots] == ["object", "condition", "asked", "action"]
    assert set(yard.classes) < set(yard.slots[0].options)


@pytest.mark.parametrize("name", bundled_tasks())
def test_the_reviewer_may_name_every_class_of_a_task_or_none(name: str) -> None:
    task = Task.load(name)
    options = [option for slot in task.slots if slot.name in {"object", "type"} for option in slot.options]
    assert task.classes == tuple(options[:-1])
    assert options[-1] in {"nothing", "none"}


def test_an_unknown_task_lists_the_known() -> None:
    with pytest.raises(ConfigError, match="bundled: kitti, nuscenes, pcb, yard"):
        Task.load("moon")


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    text = (
        (Path(__file__).parents[2] / "datasets" / "yard.toml")
        .read_text()
        .replace('"drum", "pallet"', '"drum", "drum"', 1)
    )
    with pytest.raises(ConfigError, match="classes holds a name twice"):
        Task.load(str(write(tmp_path, text)))
