"""A recording through a real edge daemon, at its own pace, against a review service that runs somewhere.

Items have the ids they have in a run of both nodes in one process, so that results compare id by id and the audit
lottery draws the same: the daemon finds a spool of that epoch. A service that has answered the epoch before would
answer from its ledger; where it has, or cannot be asked, the daemon gets a new epoch, and the lottery draws others.
"""

from __future__ import annotations

import fcntl
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_node.spool import Spool
from edge_node.spool.copying import read_gaps, reading
from fusion.config import toml_string
from fusion.errors import ConfigError, UnavailableError
from fusion.json_text import parse_json
from fusion.types import new_epoch
from fusion.wire.messages import Hello
from replay.live.following import failure, follow
from replay.live.processes import start
from replay.live.service import health, knows
from replay.results.records import Number
from replay.running.folder import RunFolder, write_json
from replay.running.lane import epoch_of, remove_database
from replay.running.modes.mode import LiveLink
from replay.running.plan import Job, Plan, Prepared
from replay.running.stamp import Stamps
from replay.sources.jobs import open_job

LIVE_NAME, TOLD_NAME, CONFIG_NAME, LOG_NAME = "live.json", "edge.json", "edge.toml", "edge.log"


def play_live(plan: Plan, job: Job, out: Path) -> None:
    """Run `job` under every variant of `plan`; one that was cut off goes on where it was.

    One daemon of a run works at a time: a service has one stream for each name of a device.

    Raises `UnavailableError` when the service stays away: the spool keeps what waits, and the same command goes on.
    """
    assert plan.live is not None
    if job.from_s or job.to_s is not None:
        raise ConfigError(f"{job.name}: --live plays whole recordings; leave the range out")
    if not Path(job.source).exists():
        raise ConfigError(f"{job.source}: --live plays files and folders of this machine; fetch it first")
    with _alone(out):
        for one in plan.prepared(job):
            _play(plan, job, one, RunFolder.of(out, one.variant), plan.live)


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
    found["gap_reasons"] = _gap_reasons(folder.spool(job.name) for job in plan.jobs)
    found["behind_pace"] = sum(pace["behind"] for pace in paces)
    found["would_drop"] = sum(pace["would_drop"] for pace in paces)
    for name in ("edge_rss_mb", "edge_rss_peak_mb", "edge_start_s"):
        found[name] = max((one[name] for one in told if one.get(name) is not None), default=None)
    return found


def _play(plan: Plan, job: Job, one: Prepared, folder: RunFolder, link: LiveLink) -> None:
    place = folder.job(job.name)
    place.mkdir(parents=True, exist_ok=True)
    if (tls := one.edge.uplink.tls) is not None:
        link = link.model_copy(update={"tls": tls})
    print(f"{job.name}: service at {link.address}: {health(link.address, link.tls)}", flush=True)
    _prepare(plan, job, one, folder, link)
    config = place / CONFIG_NAME
    config.write_text(_toml(plan, job, one, folder, link), encoding="utf-8")
    overrides = [word for key in one.variant.split()["edge"] for word in ("--set", key)]
    told = place / TOLD_NAME
    arguments = ["run", "--config", str(config), *overrides, "--until-done", "--summary", str(told)]
    node = start("edge_node.cli", arguments, place / LOG_NAME)
    try:
        follow(node, folder.spool(job.name), _total(plan, job), job.name)
    finally:
        node.stop()
    if error := failure(node):
        raise error
    (place / LIVE_NAME).unlink(missing_ok=True)  # it is through: whoever runs it again begins anew


def _prepare(plan: Plan, job: Job, one: Prepared, folder: RunFolder, link: LiveLink) -> None:
    """A spool of its own for the daemon; what an earlier run of the very same left is gone on with."""
    place, spool = folder.job(job.name), folder.spool(job.name)
    content = open_job(job, plan.task).info().content_sha256
    key = Stamps(plan).of(job, one.variant).with_recording(content).key
    remove_database(folder.ledger(job.name))
    if _read(place / LIVE_NAME).get("key") == key and spool.exists():
        return
    remove_database(spool)
    (place / LOG_NAME).unlink(missing_ok=True)
    epoch = _epoch(plan, job, one, link)
    Spool.open(spool, one.edge.device, plan.task.name, settings=one.edge.spool, epoch=epoch).close()
    write_json(place / LIVE_NAME, {"key": key, "device": one.edge.device, "epoch": epoch})


def _epoch(plan: Plan, job: Job, one: Prepared, link: LiveLink) -> str:
    """That of a run of both nodes in one process, where the service is there and has none of its items."""
    wanted = epoch_of(open_job(job, plan.task).info().content_sha256, job)
    try:
        if not knows(link.address, link.tls, Hello(one.edge.device, wanted, plan.task.name)):
            return wanted
        why = "the service has answered its items before"
    except UnavailableError as error:
        why = f"the service cannot be asked ({error})"
    print(f"{job.name}: {why}, so its items get new ids, and the audit lottery draws others", flush=True)
    return new_epoch()


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the run's folder for one daemon; others wait."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "live.lock").open("w", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _toml(plan: Plan, job: Job, one: Prepared, folder: RunFolder, link: LiveLink) -> str:
    """The daemon's configuration; JSON's numbers and truths are TOML's too."""
    tables: dict[str, dict[str, Any]] = {
        "": {"device": one.edge.device, "task": plan.task_place},
        "source": {"path": str(Path(job.source).resolve())},
        "spool": {"path": str(folder.spool(job.name).resolve())},
        "uplink": {"address": link.address},
        "power": {"source": "off"},
    }
    tables[""] |= {"models": one.variant.models} if one.variant.models else {}
    tables["source"] |= {"split": job.split} if job.split else {}
    tables["source"] |= {"pace": "flat-out" if math.isinf(link.pace) else link.pace}
    if link.tls:
        tables["uplink.tls"] = link.tls.model_dump(mode="json", exclude_none=True)
    return "\n".join(_table(name, values) for name, values in tables.items())


def _table(name: str, values: Mapping[str, Any]) -> str:
    head = f"[{name}]\n" if name else ""
    told = {key: toml_string(one) if isinstance(one, str) else json.dumps(one) for key, one in values.items()}
    return head + "".join(f"{key} = {value}\n" for key, value in told.items())


def _total(plan: Plan, job: Job) -> int:
    sensors = open_job(job, plan.task).info().sensors
    counts = [sensors[name].count for name in plan.task.sensors if name in sensors]
    return counts[0] if counts else 0


def _gap_reasons(spools: Iterable[Path]) -> str:
    """How many frames are in declared gaps, by reason, in words."""
    counts: Counter[str] = Counter()
    for path in spools:
        with reading(path) as db:
            for gap in read_gaps(db):
                counts[gap["reason"]] += gap["count"]
    return "; ".join(f"{count} {reason}" for reason, count in counts.most_common()) or "none"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
