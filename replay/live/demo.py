"""The main job as a user would run it: both nodes as real processes over loopback, then the report."""

from __future__ import annotations

import json
from pathlib import Path

from edge_node import defaults
from fusion.config import toml_string
from fusion.errors import RecordingError
from fusion.task import Task
from replay.live.following import failure, follow
from replay.live.processes import daemon, service
from replay.outputs import collect, openers, write_outputs
from replay.results.records import RunResults
from replay.running.folder import RunFolder
from replay.running.lane import remove_database
from replay.running.plan import Job, Plan, Variant

DEVICE = "cart-1"
CLOUD_TOML = """\
listen = "127.0.0.1:0"
reviewers = ["mini:{task}"]
ledger = "{ledger}"
threads = 1
"""
EDGE_TOML = """\
device = "{device}"
task = "{task}"

[source]
path = "{recording}"
pace = {pace}

[spool]
path = "{spool}"

[evidence]
context_sound = true

[uplink]
address = "{address}"
"""


def bundled_recording(task: str) -> Path:
    """The recording that comes with the package. Raises `RecordingError` when there is none of the task."""
    path = defaults.bundled_recording(task)
    if path is None:
        raise RecordingError(f"no recording of task {task} is bundled; give one by name")
    return path


def demo(recording: Path | None, out: Path, *, task_name: str = "yard", pace: float | str = 2.0) -> RunResults:
    """Run the recording through an edge daemon and a review service, and write report, scene and summary to `out`."""
    task = Task.load(task_name)
    source = recording or bundled_recording(task.name)
    out = out.resolve()
    folder, job, variant = RunFolder(out), Job(source.stem, str(source)), Variant()
    spool, ledger = folder.spool(job.name), folder.ledger(job.name)
    spool.parent.mkdir(parents=True, exist_ok=True)
    for path in (spool, ledger):
        remove_database(path)
    opened = openers(task, (job,))
    total = opened[job.name]().info().sensors[next(iter(task.sensors))].count
    plan = Plan(task_name, (job,), (variant,))
    folder.forget_outcome()
    folder.forget(job.name)
    folder.write_manifest(plan, variant, "demo")
    device = _run(plan, folder, total, pace)
    measured = {name: device.get(name) for name in ("edge_rss_mb", "edge_rss_peak_mb", "edge_start_s")}
    results = collect(task, (job,), variant, folder, measured)
    write_outputs(results, opened, out)
    print(f"look at the items: cloud-node console --ledger {ledger}")
    return results


def _run(plan: Plan, folder: RunFolder, total: int, pace: float | str) -> dict[str, float | int | str | None]:
    """Both processes, from start to drained end; the daemon's own summary."""
    (job,) = plan.jobs
    out, spool, ledger = folder.path, folder.spool(job.name), folder.ledger(job.name)
    cloud_toml, edge_toml, told = out / "cloud.toml", out / "edge.toml", out / "edge.json"
    cloud_toml.write_text(CLOUD_TOML.format(task=plan.task.name, ledger=_quoted(ledger)), encoding="utf-8")
    for log in ("cloud.log", "edge.log"):
        (out / log).unlink(missing_ok=True)
    print("starting the review service ...", flush=True)
    with service(cloud_toml, out / "cloud.log") as (_, address):
        print(f"review service on {address}; starting the edge daemon ...", flush=True)
        text = EDGE_TOML.format(
            device=DEVICE, task=_quoted(plan.task_place), recording=_quoted(job.source), pace=json.dumps(pace),
            spool=_quoted(spool), address=address,
        )  # fmt: skip
        edge_toml.write_text(text, encoding="utf-8")
        node = daemon(edge_toml, out / "edge.log", told)
        print(node.ready, flush=True)
        try:
            follow(node, spool, total)
        finally:
            node.stop()
        if error := failure(node):
            raise error
    found: dict[str, float | int | str | None] = json.loads(told.read_text(encoding="utf-8"))
    return found


def _quoted(text: str | Path) -> str:
    """What stands between the quotes of a TOML string."""
    return toml_string(str(text))[1:-1]
