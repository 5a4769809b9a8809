"""What `world.link.share` is a share of: the bytes a second that the device sends when the link has no limit."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from replay.running.folder import RunFolder
from replay.running.plan import Job, Prepared
from replay.whatif.world import LinkSettings, ServiceSettings

BURST_S = 2.0
"""What a device that knows the link's rate may save up, in seconds of the link."""
NO_LIMIT = 1e12
Play = Callable[[Sequence[Prepared], Path], object]


def with_rates(job: Job, prepared: Sequence[Prepared], play: Play) -> list[Prepared]:
    """The same with every share as a rate, and every rate that the device is to know in its settings.

    `play` runs variants into a folder: those that tell what shares are of are run first, once for all that want it.
    """
    wanted = {_key(one): _unlimited(one) for one in prepared if one.world.link.share}
    needs: dict[str, float] = {}
    if wanted:
        named = [_named(one, f"need-{number}") for number, one in enumerate(wanted.values())]
        with tempfile.TemporaryDirectory(prefix="replay-need-") as folder:
            play(named, Path(folder))
            found = [_need(RunFolder.of(Path(folder), one.variant), job) for one in named]
        needs = dict(zip(wanted, found, strict=True))
    return [_known(_rated(one, needs.get(_key(one)))) for one in prepared]


def _need(folder: RunFolder, job: Job) -> float:
    """Bytes a second of the recording; a recording of one moment counts as a second."""
    link = folder.facts(job.name)["link"]
    return float(link["bytes"] / (link["recorded_s"] or 1.0))


def _rated(one: Prepared, need: float | None) -> Prepared:
    link = one.world.link
    if not link.share or need is None:
        return one
    rate = max(1.0, need * link.share)
    settled = link.model_copy(update={"bytes_per_s": rate, "share": None})
    return replace(one, world=one.world.model_copy(update={"link": settled}))


def _known(one: Prepared) -> Prepared:
    """Tell the device the link's rate, where it is to know."""
    rate, screening = one.world.link.bytes_per_s, one.edge.screening
    if not one.world.link.budget or rate is None:
        return one
    told = {"budget_bytes_per_s": rate, "budget_burst_bytes": max(1, round(rate * BURST_S))}
    update = {key: value for key, value in told.items() if key not in screening.model_fields_set}
    return replace(one, edge=one.edge.model_copy(update={"screening": screening.model_copy(update=update)}))


def _unlimited(one: Prepared) -> Prepared:
    link, cloud = LinkSettings(bytes_per_s=NO_LIMIT), ServiceSettings()
    return replace(one, world=one.world.model_copy(update={"link": link, "cloud": cloud}))


def _named(one: Prepared, name: str) -> Prepared:
    return replace(one, variant=one.variant.model_copy(update={"name": name}))


def _key(one: Prepared) -> str:
    """Stands for everything that decides what would be sent over a link without a limit."""
    world = _unlimited(one).world
    parts = one.edge.model_dump_json(), one.cloud.model_dump_json(), world.model_dump_json(), one.variant.models
    return json.dumps(parts)
