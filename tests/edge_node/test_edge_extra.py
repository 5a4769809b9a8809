"""The daemon runs where only the `edge` extra is installed: no torch, small, and quick to start."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ..ports import free_address

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "torchvision", "torchaudio", "ultralytics", "transformers", "open3d")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    uv = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
    if not Path(uv).exists():
        pytest.skip("uv is not there: the environment with only the edge extra cannot be made")
    folder = tmp_path_factory.mktemp("edge") / "venv"
    done = subprocess.run(
        [uv, "sync", "--frozen", "--extra", "edge", "--no-dev", "--quiet"],
        cwd=ROOT, env={**os.environ, "UV_PROJECT_ENVIRONMENT": str(folder)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"the packages of the edge extra cannot be fetched here: {done.stderr[-200:]}")
    return folder


def test_nothing_heavy_is_installed(environment: Path) -> None:
    script = f"import importlib.util as u; print([m for m in {HEAVY!r} if u.find_spec(m)])"
    python = environment / "bin" / "python"
    assert subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_daemon_screens_the_bundled_patrol(environment: Path, tmp_path: Path) -> None:
    config = tmp_path / "edge.toml"
    config.write_text(
        f'device = "cart-1"\ntask = "yard"\n[source]\npath = "{ROOT / "fusion/recordings/yard.mcap"}"\n'
        f'[spool]\npath = "{tmp_path / "spool.db"}"\n[uplink]\naddress = "{free_address()}"\n[drain]\nanswers_s = 1.0\n'
    )
    program = environment / "bin" / "edge-node"
    summary = tmp_path / "summary.json"
    done = subprocess.run(
        [program, "run", "--config", config, "--until-done", "--summary", summary],
        capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 5, done.stderr  # no service: everything is screened and stays in the spool
    assert "Traceback" not in done.stderr
    assert re.match(r"ready: started in \d+\.\d+ s", done.stdout)
    told = json.loads(summary.read_text())
    assert told["samples"] > 50
    assert told["pending"] == told["waiting"] > 0
    assert told["edge_rss_mb"] < 400
