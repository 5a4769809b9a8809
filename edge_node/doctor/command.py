"""`edge-node doctor`: the checks, then the trial of engines, then what to write into `edge.toml`."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from edge_node.config import EdgeSettings, EngineSettings
from edge_node.defaults import bundled_recording
from edge_node.doctor.agreement import TOLERANCES
from edge_node.doctor.checks import all_checks
from edge_node.doctor.frames import recorded, still
from edge_node.doctor.machine import this_machine
from edge_node.doctor.report import engine_toml, trial_table
from edge_node.doctor.trial import Candidate, Trial, Tried, candidates, choose
from edge_node.models import FUSER, camera_of, load_detector, load_fuser, model_folder
from edge_node.perception import Detector, Fuser
from fusion.checks import Check, State
from fusion.engines import engines_here
from fusion.errors import ConfigError, FusionError
from fusion.synchronization import Synchronizer
from fusion.task import Task

_LEAST_ROUNDS = 20


def doctor(settings: EdgeSettings, *, recording: Path | None, samples: int, write: Path | None) -> int:
    """Report on standard output; 1 when anything failed, else 0. Raises `FusionError` for a wrong configuration."""
    if write:
        check_writable(write)
    task = Task.load(settings.task)
    models, machine = model_folder(task, settings.models), this_machine()
    found = []
    for check in all_checks(settings, models, machine):
        print(check, flush=True)
        found.append(check)
    try:
        tried = _try_engines(settings, task, models, candidates(engines_here(), machine.threads), recording, samples)
    except FusionError as error:
        found.append(Check(State.FAIL, "trial", str(error), "no engine could be tried"))
        print(found[-1])
    else:
        _conclude(tried, write)
    count = Counter(check.state for check in found)
    print(", ".join(f"{count[state]} {state}" for state in State))
    return int(count[State.FAIL] > 0)


def check_writable(path: Path) -> None:
    """Raise `ConfigError` for a file that holds more than an `[engine]` table, or cannot be written."""
    try:
        if not path.parent.is_dir():
            raise ConfigError(f"--write {path}: {path.parent} is not a folder; name a file in one that exists")
        if path.exists():
            _check_replaceable(path)
            path.open("ab").close()
        else:
            path.open("ab").close()
            path.unlink()
    except OSError as error:
        raise ConfigError(f"--write {path}: cannot be written ({error.strerror}); name another file") from None


def _check_replaceable(path: Path) -> None:
    try:
        there = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ConfigError(f"--write {path}: there is another file; name a new one") from None
    engine = there.get("engine", {})
    if not isinstance(engine, dict):
        raise ConfigError(f"--write {path}: its 'engine' is no table of settings; name a new file")
    if set(there) - {"engine"} or set(engine) - {"backend", "threads", "precision"}:
        raise ConfigError(f"--write {path}: it holds other settings, which would be lost; name a new file")


def _try_engines(
    settings: EdgeSettings, task: Task, models: Path, ways: list[Candidate], recording: Path | None, most: int
) -> list[Tried]:
    reference = Synchronizer.of_task(task, settings.synchronizer).reference
    camera, path = camera_of(task, reference), recording or bundled_recording(task.name)
    if path:
        samples = recorded(settings, task, path, most)
        print(f"\ntrying {len(ways)} ways on {len(samples)} samples of {path}")
    else:
        samples = still(task, reference, fused=(models / FUSER).is_file())
        print(f"\ntrying {len(ways)} ways on a made still (--recording FILE tries them on yours)")

    def load(engine: EngineSettings) -> tuple[Detector, Fuser | None]:
        detector = load_detector(task, models, engine)
        return detector, load_fuser(task, models, detector.profile, engine)

    trial = Trial(task, camera, load, samples, settings.engine, rounds=max(1, _LEAST_ROUNDS // len(samples)))
    return list(tqdm(trial.run(ways), total=len(ways), desc="try", unit="way", leave=False))


def _conclude(tried: list[Tried], write: Path | None) -> None:
    chosen = choose(tried)
    print(trial_table(tried, chosen))
    print(f"reference: {tried[0].candidate}; {TOLERANCES}")
    assert chosen is not None, "the reference agrees with itself"
    lines = engine_toml(chosen.candidate)
    print(f"\n{lines}")
    if write:
        try:
            write.write_text(lines, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--write {write}: cannot be written ({error.strerror}); the lines are above") from None
        print(f"written to {write}")
