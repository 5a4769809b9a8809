"""`edge-node calibrate`: watch recordings whose truth is known, choose a threshold, and write down what it promises."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from edge_node.calibration.choosing import Point, Wanted, choose, needed, points, thresholds, try_all
from edge_node.calibration.file import Calibration, policy_of
from edge_node.calibration.trying import Fate
from edge_node.calibration.watching import Visible, Watched, watch
from edge_node.config import EdgeSettings
from edge_node.models import camera_of, load_perception, model_folder
from fusion.errors import InputError
from fusion.synchronization import Synchronizer
from fusion.task import Task

_log = logging.getLogger(__name__)


def calibrate(
    settings: EdgeSettings, recordings: Sequence[Path], out: Path, wanted: Wanted, visible: Visible
) -> Calibration:
    """Calibrate on `recordings` and write `out`. Raises `FusionError`: `ConfigError` when nothing can be promised."""
    if not recordings:
        raise InputError("no recordings to calibrate on; give files or folders that tell the truth about defects")
    task = Task.load(settings.task)
    reference = Synchronizer.of_task(task, settings.synchronizer).reference
    folder = model_folder(task, settings.models)
    perception = load_perception(task, camera_of(task, reference), folder, settings.engine)
    bar = tqdm(recordings, desc="watch", unit="recording")
    watched = [watch(path, settings, task, perception, visible) for path in bar]
    cuts = thresholds(watched)
    curve = points(watched, try_all(watched, settings.screening, cuts), cuts)
    defects = sum(len(each.defects) for each in watched)
    print(report(curve, watched))
    chosen = choose(curve, wanted, defects)
    if (holding := sum(bool(each.defects) for each in watched)) < (need := needed(wanted.alpha)):
        _log.warning(
            "only %d recordings hold defects, and those of one have something in common: for new recordings the "
            "promise may not hold; calibrate with %d or more", holding, need,
        )  # fmt: skip
    found = Calibration(
        task=task.name, models=dict(perception.models), policy=policy_of(settings),
        visibility=visible.share, side=visible.side, alpha=wanted.alpha,
        suspect_above=chosen.suspect_above, defects=defects, recordings=len(watched), missed=chosen.missed,
        promised=chosen.promised, share=chosen.share, per_minute=chosen.per_minute,
        curve=tuple(asdict(point) for point in curve),
    )  # fmt: skip
    found.save(out)
    print(told(found, chosen))
    return found


def told(found: Calibration, chosen: Point) -> str:
    """The promise in words, and what it does not cover."""
    missed = ", ".join(f"{n} {fate}" for fate, n in sorted(chosen.fates.items()) if fate != Fate.SENT) or "none"
    return (
        f"suspect_above = {found.suspect_above:g}: of new defects like these at most {found.alpha:.1%} are missed, "
        f"expected over calibrations (bound {found.promised:.3f}; here {found.missed:.3f} of {found.defects} defects "
        f"in {found.recordings} recordings: {missed}). With recordings as the units, whose defects have something in "
        f"common, the bound is {chosen.by_recording:.3f}.\n"
        f"It sends {found.share:.1%} of all items, {found.per_minute:.1f} a minute. The promise holds for defects that "
        f"come up as these did, and while models and settings stay as they are."
    )


def report(curve: Sequence[Point], watched: Sequence[Watched], rows: int = 14) -> str:
    """The curve as a table, thinned out to about `rows`."""
    every = max(1, len(curve) // rows)
    shown = [point for place, point in enumerate(curve) if place % every == 0 or place == len(curve) - 1]
    weighed = any(point.sent_bytes for point in curve)
    seconds = max(sum(each.seconds for each in watched), 1e-9)
    lines = [f"{'above':>7} {'missed':>7} {'bound':>7} {'of items':>9} {'a minute':>9} {'repeats':>8}"]
    lines[0] += f" {'bytes/s':>9}" if weighed else ""
    for p in shown:
        line = f"{p.suspect_above:7.4f} {p.missed:7.3f} {p.promised:7.3f} {p.share:9.2%} {p.per_minute:9.1f}"
        lines.append(f"{line} {p.deduplicated:8d}" + (f" {p.sent_bytes / seconds:9.0f}" if weighed else ""))
    return "\n".join(lines)
