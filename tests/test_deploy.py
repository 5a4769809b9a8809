"""What starts the nodes names commands that exist, and the scripts are readable to the shell."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from cloud_node.cli import _parser as cloud_parser
from cloud_node.config import CloudSettings
from cloud_node.metrics import Metrics
from edge_node.cli import _parser
from fusion.config import from_overrides
from fusion.errors import ConfigError, ModelError

DEPLOY = Path(__file__).parents[1] / "deploy"


def unit(name: str = "edge-node.service") -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None, strict=False)
    parsed.optionxform = str
    parsed.read(DEPLOY / name)
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


def test_the_service_s_unit_drains_and_is_as_hardened_as_the_edge_s():
    service, edge = unit("cloud-node.service")["Service"], unit()["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    assert Path(program).name == "cloud-node"
    assert cloud_parser().parse_args(arguments).config == Path("/etc/fusion/cloud.toml")
    assert float(service["TimeoutStopSec"]) > CloudSettings().drain_seconds
    assert service["RestartPreventExitStatus"] == edge["RestartPreventExitStatus"]
    hardening = [key for key in edge if key.startswith(("Protect", "Private", "Restrict", "NoNew", "Lock"))]
    assert len(hardening) >= 8
    assert {key: service[key] for key in hardening} == {key: edge[key] for key in hardening}


def test_the_service_s_container_starts_a_command_that_exists_and_asks_whether_it_is_ready():
    text = (DEPLOY / "Containerfile.cloud").read_text()
    entry, more = (
        json.loads(re.search(rf"^{word} (\[.*\])$", text, re.MULTILINE)[1]) for word in ("ENTRYPOINT", "CMD")
    )
    assert entry[0] == "cloud-node"
    settings = from_overrides(CloudSettings, cloud_parser().parse_args([*entry[1:], *more]).overrides)
    assert f"http://127.0.0.1:{settings.metrics.rpartition(':')[2]}/readyz" in text
    assert text.index("ENV UV_COMPILE_BYTECODE=1") < text.index("uv pip install") < text.index("USER fusion")


def test_the_dashboard_asks_for_metrics_that_exist():
    board = json.loads((DEPLOY / "grafana-cloud.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    ends = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    there = {family.name + end for family in Metrics().registry.collect() for end in ends[family.type]}
    for expression in asked:
        names = re.findall(r"fusion_cloud_\w+", expression)
        assert names, expression
        assert set(names) <= there, expression
    words = " ".join(asked)
    for subject in ("books_open", "queue_items", "items_total", "answer_seconds", "refusals_total", "batch_items"):
        assert f"fusion_cloud_{subject}" in words


def test_the_dashboard_s_panels_do_not_overlap():
    taken = set()
    for panel in json.loads((DEPLOY / "grafana-cloud.json").read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + k) for i in range(at["w"]) for k in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken
        taken |= cells
