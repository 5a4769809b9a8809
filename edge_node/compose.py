"""The daemon made from its configuration: everything that can be wrong with files is found here, before it runs."""

from __future__ import annotations

import contextlib
from pathlib import Path

from edge_node.calibration.file import calibrated
from edge_node.config import EdgeSettings
from edge_node.daemon import Daemon, Parts
from edge_node.models import camera_of, load_perception, model_folder
from edge_node.perception import Perception
from edge_node.power import GearedPerception, Power, check_gear
from edge_node.sources import Source, open_source
from edge_node.spool import Spool
from fusion.errors import RecordingError
from fusion.synchronization import Synchronizer
from fusion.task import Task
from fusion.tracing import open_tracer
from fusion.wire.channel import channel_credentials


def compose(settings: EdgeSettings, *, until_done: bool = False) -> Daemon:
    """Open source, models and spool, cheapest first. Raises `FusionError` naming the key or file that is wrong."""
    task = Task.load(settings.task)
    reference = Synchronizer.of_task(task, settings.synchronizer).reference
    folder = model_folder(task, settings.models)
    if settings.uplink.tls:
        channel_credentials(settings.uplink.tls)
    source = open_source(settings.source, task)

    def load(folder: Path) -> Perception:
        return load_perception(task, camera_of(task, reference), folder, settings.engine, settings.evidence)

    perception = GearedPerception(load(folder))
    settings = calibrated(settings, task, perception.models)
    _check_rig(settings.source.label, source, fused="fusion" in perception.models)
    for models in sorted({gear.models for gear in settings.power.gears if gear.models}):
        other = load(model_folder(task, models))
        check_gear(models, other, perception.own)
        _check_rig(settings.source.label, source, fused="fusion" in other.models)
    with contextlib.ExitStack() as undo:
        tracer = open_tracer(settings.trace, "edge-node", settings.device)
        undo.callback(tracer.exporter.close)
        power = Power.open(settings.power, perception, lambda models: load(model_folder(task, models)))
        undo.callback(power.stop)
        spool = Spool.open(settings.spool.path, settings.device, task.name, settings=settings.spool)
        undo.callback(spool.close)
        parts = Parts(task, source, perception, spool, power, tracer)
        daemon = Daemon(settings, parts, until_done=until_done)
        undo.pop_all()
    return daemon


def _check_rig(label: str, source: Source, *, fused: bool) -> None:
    if fused and source.rig is None:
        raise RecordingError(f"{label}: no calibration in it, and the task's fusion model needs one")
