"""`edge-node bench`: the daemon's pipeline and spool on a recording, measured on this machine."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from edge_node.bench.measuring import WARM, Bench, Measured
from edge_node.bench.report import summary, table
from edge_node.calibration.file import calibrated
from edge_node.config import LIVE, EdgeSettings, SourceSettings
from edge_node.factory import PipelineFactory
from edge_node.models import camera_of, load_perception, model_folder
from edge_node.power import Power, find_meter
from edge_node.sources import open_source
from edge_node.spool import Spool
from fusion.clock import SystemClock
from fusion.errors import ConfigError, RecordingError
from fusion.synchronization import Synchronizer
from fusion.task import Task


def bench(settings: EdgeSettings, *, recording: Path | None, samples: int, out: Path | None) -> dict[str, Any]:
    """Measure, print a table and write JSON to `out`. Raises `FusionError`; the daemon's own spool is not touched."""
    if recording:
        source_settings = SourceSettings(path=recording, split=settings.source.split)
        settings = settings.model_copy(update={"source": source_settings})
    elif settings.source.kind == LIVE:
        raise ConfigError("edge-node bench measures on a recording; name one: the configuration reads live sensors")
    one_thread = settings.engine.model_copy(update={"overlap": False})
    settings = settings.model_copy(update={"engine": one_thread})
    task, clock = Task.load(settings.task), SystemClock()
    reference = Synchronizer.of_task(task, settings.synchronizer).reference
    folder = model_folder(task, settings.models)
    source = open_source(settings.source, task)
    perception = load_perception(task, camera_of(task, reference), folder, settings.engine, settings.evidence)
    settings = calibrated(settings, task, perception.models)
    factory = PipelineFactory(settings, task, source, perception, clock)
    with contextlib.ExitStack() as stack:
        # A governor would change what is measured while it is measured.
        ungoverned = settings.power.model_copy(update={"gears": (), "budget_watts": 0.0, "limit_c": 0.0})
        power = Power(ungoverned, *find_meter(ungoverned.source, period_s=ungoverned.period_s))
        stack.callback(power.stop)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-bench-", dir=_beside(settings))))
        spool = Spool.open(scratch / "spool.db", settings.device, task.name, settings=settings.spool)
        stack.callback(spool.close)
        run = Bench(settings.source, source, factory, spool, power, clock, samples, settings.spool.batch)
        found = _watched(run)
        if not found.timings:
            raise RecordingError(
                f"{settings.source.path}: nothing to measure after the first {WARM} samples "
                f"({found.gaps} frames were gaps); give a longer recording"
            )
        power.stop()
        engine = {key: getattr(settings.engine, key) for key in ("backend", "threads", "precision")}
        told = summary(found, power.summary(), {"task": task.name, "recording": str(settings.source.path), **engine})
        print(table(told, power.told().removeprefix("not measured: ")))
    if out:
        out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return told


def _watched(run: Bench) -> Measured:
    """Run with a progress bar."""
    with tqdm(desc="measure", unit="sample", total=run.most or None, leave=False) as bar:
        run.progress = bar.update
        return run.run()


def _beside(settings: EdgeSettings) -> Path:
    """The folder of the daemon's spool, so that commits go to its disk; the working folder where it is not there."""
    folder = settings.spool.path.resolve().parent
    return folder if folder.is_dir() else Path.cwd()
