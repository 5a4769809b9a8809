"""What starts the edge node on a device names commands that exist, and the scripts are readable to the shell."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from edge_node.cli import _parser
from fusion.errors import ConfigError, ModelError

DEPLOY = Path(__file__).parents[1] / "deploy"


def unit() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None, strict=False)
    parsed.optionxform = str
    parsed.read(DEPLOY / "edge-node.service")
    return parsed


def test_the_unit_starts_a_command_that_exists_and_hears_of_its_life():
    service = unit()["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    assert Path(program).name == "edge-node"
    assert _parser().parse_args(arguments).config == Path("/etc/fusion/edge.toml")
    assert service["Type"] == "notify"
    assert float(service["WatchdogSec"]) > 0
    assert service["RestartPreventExitStatus"].split() == [str(ConfigError.exit_code), str(ModelError.exit_code)]


@pytest.mark.parametrize("name", ["Containerfile.edge", "Containerfile.jetson"])
def test_a_container_starts_a_command_that_exists(name):
    text = (DEPLOY / name).read_text()
    entry, more = (
        json.loads(re.search(rf"^{word} (\[.*\])$", text, re.MULTILINE)[1]) for word in ("ENTRYPOINT", "CMD")
    )
    assert entry[0] == "edge-node"
    assert _parser().parse_args([*entry[1:], *more]).overrides == ["metrics.listen=0.0.0.0:9464"]
    assert "USER fusion" in text


def test_a_bundle_holds_what_live_sensors_need():
    assert "--extra edge --extra live" in (DEPLOY / "bundle.sh").read_text()
    assert "fusion-stack[edge,live]" in (DEPLOY / "install.sh").read_text()
    for name in ("Containerfile.edge", "Containerfile.jetson"):
        assert "libportaudio2" in (DEPLOY / name).read_text()


@pytest.mark.parametrize(("shell", "name"), [("sh", "install.sh"), ("bash", "bundle.sh")])
def test_the_scripts_are_read_by_their_shell(shell, name):
    subprocess.run([shell, "-n", DEPLOY / name], check=True)
