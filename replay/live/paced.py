"""A recording through a real edge daemon, at its own pace, against a review service that runs somewhere.

The daemon draws its own epoch, as on any device: with ids that come from the recording, a service that was asked once
would answer a second run of other models from its ledger. Its results are compared by sequence and item number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_node.spool import Spool
from fusion.errors import ConfigError
from fusion.types import new_epoch
from replay.live.following import failure, follow
from replay.live.processes import start
from replay.live.service import health
from replay.results.records import Number
from replay.running.folder import RunFolder, write_json
from replay.running.lane import remove_database
from replay.running.modes.mode import LiveLink
from replay.running.plan import Job, Plan, Prepared, Variant
from replay.running.sources import open_job

LIVE_NAME, TOLD_NAME, CONFIG_NAME, LOG_NAME = "live.json", "edge.json", "edge.toml", "edge.log"


def play_live(plan: Plan, job: Job, out: Path) -> None:
    """Run `job` under every variant of `plan`, one after the other; one that was cut off goes on where it was.

    Raises `UnavailableError` when the service stays away: the spool keeps what waits, and the same command goes on.
    """
    assert plan.live is not None
    if job.from_s or job.to_s is not None:
        raise ConfigError(
            f"{job.name}: --live plays whole recordings; cut it with 'fusion convert', or leave the range out"
        )
    for one in plan.prepared(job):
        folder = RunFolder.of(out, one.variant)
        _play(plan, job, one, folder, plan.live)


def facts(plan: Plan, folder: RunFolder) -> dict[str, Number]:
    """What the daemons told of a live run, all recordings together; nothing of another run."""
    if plan.live is None:
        return {}
    told = [_read(folder.job(job.name) / TOLD_NAME) for job in plan.jobs]
    paces = [one["pace"] for one in told if one.get("pace")]
    found: dict[str, Number] = {
        name: max((pace[name] for pace in paces if pace[name] is not None), default=None)
        for name in ("lag_ms_p50", "lag_ms_p99")
    }
    found["behind_pace"] = sum(pace["behind"] for pace in paces)
    found["would_drop"] = sum(pace["would_drop"] for pace in paces)
    for name in ("edge_rss_mb", "edge_rss_peak_mb", "edge_start_s"):
        found[name] = max((one[name] for one in told if one.get(name) is not None), default=None)
    return found


def _play(plan: Plan, job: Job, one: Prepared, folder: RunFolder, link: LiveLink) -> None:
    place, key = folder.job(job.name), plan.key(job, one.variant)
    place.mkdir(parents=True, exist_ok=True)
    _prepare(plan, job, one, folder, key)
    config = place / CONFIG_NAME
    config.write_text(_toml(plan, job, one.variant, folder, link), encoding="utf-8")
    address = one.edge.uplink.address if _sets(one.variant, "uplink.address") else link.address
    print(f"{job.name}: service at {address}: {health(address, link.tls or one.edge.uplink.tls)}", flush=True)
    overrides = [word for key in one.variant.split()["edge"] for word in ("--set", key)]
    told = place / TOLD_NAME
    arguments = ["run", "--config", str(config), *overrides, "--until-done", "--summary", str(told)]
    node = start("edge_node.cli", arguments, place / LOG_NAME)
    try:
        follow(node, folder.spool(job.name), _total(plan, job), job.name)
    except KeyboardInterrupt:
        node.stop()
        raise
    if error := failure(node):
        raise error


def _prepare(plan: Plan, job: Job, one: Prepared, folder: RunFolder, key: str) -> None:
    """A spool of its own for the daemon; what an earlier run with the same `key` left is gone on with."""
    place, spool = folder.job(job.name), folder.spool(job.name)
    remove_database(folder.ledger(job.name))
    if _read(place / LIVE_NAME).get("key") == key and spool.exists():
        return
    remove_database(spool)
    (place / LOG_NAME).unlink(missing_ok=True)
    device = one.edge.device if _sets(one.variant, "device") else f"replay-{new_epoch()[:8]}"
    Spool.open(spool, device, plan.task.name, settings=one.edge.spool).close()
    write_json(place / LIVE_NAME, {"key": key, "device": device})


def _toml(plan: Plan, job: Job, variant: Variant, folder: RunFolder, link: LiveLink) -> str:
    """The daemon's configuration; JSON's strings, numbers and truths are TOML's too."""
    tables: dict[str, dict[str, Any]] = {
        "": {"device": _read(folder.job(job.name) / LIVE_NAME)["device"], "task": plan.task.name},
        "source": {"path": str(Path(job.source).resolve())},
        "spool": {"path": str(folder.spool(job.name).resolve())},
        "uplink": {"address": link.address},
        "power": {"source": "off"},
    }
    tables[""] |= {"models": variant.models} if variant.models else {}
    tables["source"] |= {"split": job.split} if job.split else {}
    tables["source"] |= {"pace": "flat-out" if math.isinf(link.pace) else link.pace}
    if link.tls:
        tables["uplink.tls"] = link.tls.model_dump(mode="json", exclude_none=True)
    return "\n".join(_table(name, values) for name, values in tables.items())


def _table(name: str, values: Mapping[str, Any]) -> str:
    head = f"[{name}]\n" if name else ""
    return head + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def _sets(variant: Variant, key: str) -> bool:
    return any(one.partition("=")[0].strip() == key for one in variant.split()["edge"])


def _total(plan: Plan, job: Job) -> int:
    sensors = open_job(job, plan.task).info().sensors
    counts = [sensors[name].count for name in plan.task.sensors if name in sensors]
    return counts[0] if counts else 0


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
