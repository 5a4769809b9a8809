"""What points and sound cost beside pixels: every item a device sends, as if each was asked for.

    python benchmarks/context_lanes.py fusion/recordings/yard.mcap

Plays the recording through the device's own code and a service that is never sure, and weighs what came.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from cloud_node.ledger import open_reader, undamaged
from fusion.types import Evidence, ItemState
from fusion.wire.convert import parse_evidence
from replay.running.folder import RunFolder
from replay.running.plan import Plan, Variant
from replay.running.run import run
from replay.sources.jobs import jobs_of

LANES = ("pixels", "points", "sound")


def main() -> None:
    """Play, weigh, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--task", default="yard")
    parser.add_argument("--max-points", type=int, default=2048)
    options = parser.parse_args()
    sets = ("edge.evidence.context_sound=true", f"edge.evidence.max_points={options.max_points}")
    variant = Variant(reviewer=f"fixed:{options.task}", sets=(*sets, "cloud.review.confidence_floor=1.0"))
    plan = Plan(options.task, jobs_of([str(options.recording)]), (variant,))
    with tempfile.TemporaryDirectory() as folder:
        run(plan, Path(folder)).ran(plan.jobs)
        ledger = RunFolder(Path(folder)).ledger(plan.jobs[0].name)
        reader = open_reader(str(ledger))
        stored = undamaged(reader.outcomes(with_evidence=True))
        outcomes = [one for one in stored if one.state is ItemState.REVIEWED]
        reader.close()
    rows = [(parse_evidence(one.evidence or b""), (one.header or {}).get("asked", {})) for one in outcomes]
    submitted = [told["submitted_bytes"] for _, told in rows if told]
    print(
        json.dumps(
            {"items": len(rows), "submitted": percentiles(submitted)} | weigh([one for one, _ in rows]), indent=2
        )
    )


def weigh(items: list[Evidence]) -> dict[str, object]:
    """Bytes of each lane, and how many points, over the items that have it."""
    found: dict[str, object] = {}
    for name in LANES:
        lanes = [lane for one in items if (lane := getattr(one, name)) is not None]
        found[name] = {"of": len(lanes), "bytes": percentiles([len(lane.encoded) for lane in lanes])}
    found["points_an_item"] = percentiles([one.points.count for one in items if one.points])
    return found


def percentiles(values: list[int]) -> dict[str, int]:
    """Median, 95th percentile and most."""
    if not values:
        return {}
    return {f"p{share}": round(float(np.percentile(values, share))) for share in (50, 95, 100)}


if __name__ == "__main__":
    main()
