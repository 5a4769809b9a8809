"""The console script: what goes wrong is one line and an exit code, and nothing heavy is ever imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge_node import cli
from edge_node.models import model_folder
from edge_node.spool import Spool
from fusion.errors import ModelError
from fusion.recording.native.synthetic import write_synthetic
from fusion.task import Task

DEEPPCB = Path(__file__).parents[2] / "../shared/data/deeppcb"
HEAVY = ("torch", "torchvision", "torchaudio", "ultralytics", "transformers", "open3d")


def bundled(task: str) -> Path:
    try:
        folder = model_folder(Task.load(task), "")
    except ModelError:
        folder = Path("missing")
    if not (folder / "detector.onnx").is_file():
        pytest.skip(f"the models of task {task} are not bundled in this checkout")
    return folder


@pytest.fixture(scope="module")
def patrol(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "patrol.mcap"
    write_synthetic(path, frames=3)
    return path


@pytest.fixture
def edge(tmp_path, capsys, monkeypatch):
    """`edge run` with a configuration; gives exit code, standard output and error lines."""
    monkeypatch.setattr(cli, "_log_to_stderr", lambda level: None)

    def run(text: str, *arguments: str) -> tuple[int, str, list[str]]:
        config = tmp_path / "edge.toml"
        config.write_text(f'{text}\n[spool]\npath = "{tmp_path / "spool.db"}"\n')
        code = cli.main(["run", "--config", str(config), *arguments])
        out, errors = capsys.readouterr()
        assert "Traceback" not in errors
        return code, out, errors.splitlines()

    return run


def source(path: Path | str, more: str = "") -> str:
    return f'device = "cart-1"\n{more}[source]\npath = "{path}"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('devise = "x"\n[source]\npath = "x"', "edge.toml:1: unknown key 'devise'; known keys: "),
        ('[source]\npath = "x"\npaec = 1', "edge.toml:3: unknown key 'source.paec'; known keys: "),
        ("[source]\nsplit = 'test'", "key 'source.path' is missing"),
        ('[source]\npath = "x"\npace = "warp"', "edge.toml:3: 'source.pace' = 'warp': give 'flat-out', 'realtime'"),
        ('[source]\npath = "x"\n[uplink]\nwindow = 0', "edge.toml:4: 'uplink.window' = 0"),
        ('[source]\npath = "x"\nkind = "radar"', "source.kind: no source is called 'radar'; known: live, recording"),
        ('task = "moon"\n[source]\npath = "x"', "no task named 'moon'"),
    ],
)
def test_a_wrong_configuration_names_its_place(edge, text, told):
    if "kind" in text:
        bundled("yard")
    code, _, (line,) = edge(text)
    assert code == 2
    assert told in line


def test_missing_models_are_named(edge, patrol, tmp_path):
    code, _, (line,) = edge(source(patrol, f'models = "{tmp_path / "none"}"\n'))
    assert code == 4
    assert "none: no models of task yard there; set 'models' to a folder that exists" in line
    empty = tmp_path / "empty"
    empty.mkdir()
    code, _, (line,) = edge(source(patrol, f'models = "{empty}"\n'))
    assert code == 4
    assert str(empty) in line
    assert not (tmp_path / "spool.db").exists()


def test_models_of_another_task_are_refused(edge, patrol):
    code, _, (line,) = edge(source(patrol, f'models = "{bundled("pcb")}"\n'))
    assert code == 4
    assert "models of task 'pcb', not 'yard'" in line


def test_a_recording_that_cannot_be_read_is_named_and_the_spool_stays_as_it_was(edge, patrol, tmp_path):
    bundled("yard")
    spool = Spool.open(tmp_path / "spool.db", "cart-1", "yard")
    epoch = spool.epoch
    spool.close()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(patrol.read_bytes()[: patrol.stat().st_size // 2])
    for path, told in ((tmp_path / "no.mcap", "no such file"), (cut, "cut.mcap: ")):
        code, out, (line,) = edge(source(path))
        assert (code, out) == (3, "")
        assert told in line
        assert "splits" not in line
    again = Spool.open(tmp_path / "spool.db", "cart-1", "yard")
    assert again.epoch == epoch
    again.close()


def test_a_tls_file_that_is_not_there_is_named(edge, patrol):
    bundled("yard")
    code, _, (line,) = edge(source(patrol), "--set", 'uplink.tls.authority="/nowhere/ca.pem"')
    assert code == 2
    assert "/nowhere/ca.pem" in line


def test_a_summary_that_cannot_be_written_is_told_before_the_run(edge, patrol):
    code, _, (line,) = edge(source(patrol), "--summary", "/proc/none/summary.json")
    assert code == 2
    assert "--summary /proc/none/summary.json" in line


def test_a_recording_without_the_reference_sensor_is_refused(edge, patrol):
    folder = bundled("pcb")
    code, _, (line,) = edge(source(patrol, f'task = "pcb"\nmodels = "{folder}"\n'))
    assert code == 3
    assert "patrol.mcap" in line


def test_status_tells_the_ledger_and_a_missing_spool(tmp_path, capsys):
    config = tmp_path / "edge.toml"
    config.write_text(source("x") + f'[spool]\npath = "{tmp_path / "spool.db"}"\n')
    assert cli.main(["status", "--config", str(config)]) == 7
    assert "no spool there" in capsys.readouterr().err
    spool = Spool.open(tmp_path / "spool.db", "cart-1", "yard")
    spool.resume("c" * 64, "first")
    assert cli.main(["status", "--config", str(config)]) == 0  # while it is in use
    out = capsys.readouterr().out
    assert f"device cart-1, task yard, epoch {spool.epoch}" in out
    assert "samples 0, declared gaps 0" in out
    assert "run 'first' lap 0 of cccccccccccc: position 0" in out
    spool.close()


def test_help_imports_nothing_that_takes_time():
    script = (
        "import sys\nfrom edge_node import cli\ntry:\n    cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('numpy', 'grpc', 'pydantic', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    assert "exit codes" in done.stdout


def test_the_whole_room_imports_no_torch():
    script = (
        "import importlib, pkgutil, sys, edge_node\n"
        "for m in pkgutil.walk_packages(edge_node.__path__, 'edge_node.'):\n    importlib.import_module(m.name)\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_real_pictures_go_through_the_real_models(tmp_path):
    """The bundled detector on three pictures of DeepPCB, as a process: no service, so all evidence waits."""
    bundled("pcb")
    if not DEEPPCB.is_dir():
        pytest.skip("DeepPCB is not in ../shared/data")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for part in ("images", "labels"):
        (folder / part).symlink_to(DEEPPCB.resolve() / part)
    stems = (DEEPPCB / "test.txt").read_text().split()[:3]
    (folder / "few.txt").write_text("\n".join(stems))
    config, summary = tmp_path / "edge.toml", tmp_path / "summary.json"
    config.write_text(
        f'device = "bench-1"\ntask = "pcb"\n[source]\npath = "{folder}"\nsplit = "few"\n[engine]\nthreads = 1\n'
        f'[spool]\npath = "{tmp_path / "spool.db"}"\n[screening]\nuncertain_below = 0.9\n'
        '[uplink]\naddress = "127.0.0.1:1"\n[drain]\nanswers_s = 0.3\n'
    )
    script = (
        "import sys\nfrom edge_node import cli\ncode = cli.main(sys.argv[1:])\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], code)"
    )
    command = [sys.executable, "-c", script, "run", "--config", config, "--until-done", "--summary", summary]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    ready, modules = done.stdout.strip().splitlines()
    assert ready.startswith("ready: started in ")
    assert modules == "[] 5"
    told = json.loads(summary.read_text())
    assert told["samples"] == 3
    assert told["pending"] > 0
    assert told["deduplicated"] == 0  # unrelated pictures share no track
    assert told["engine_ms_p50"] < told["edge_ms_p50"]
    assert 0 < told["maps_bytes_p50"] < told["evidence_bytes_p50"] < 4096
    spool = Spool.open(tmp_path / "spool.db", "bench-1", "pcb")
    assert spool.query("SELECT value FROM meta WHERE key = 'audit_rate'") == [("0.01",)]  # what the lottery drew with
    crop = spool.kept(spool.pending(limit=1)[0].item).pixels
    assert crop.encoded.startswith(b"\xff\xd8")
    spool.close()
