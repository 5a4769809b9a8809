"""`cloud-node doctor`: the checks, then a short trial of every reviewer, then what to write into `cloud.toml`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

from cloud_node.config import CloudSettings
from cloud_node.doctor.checks import all_checks
from cloud_node.lanes.warmup import TimedBatch, warm_up
from fusion.checks import Check, State
from fusion.clock import SystemClock
from fusion.errors import FusionError
from fusion.review import load_reviewer

_NEAR_BEST = 0.9
"""The smallest batch that reaches so much of the best rate is suggested: larger ones only make items wait."""


def doctor(settings: CloudSettings) -> int:
    """Report on standard output; 1 when anything failed, else 0."""
    count: Counter[State] = Counter()
    chosen: list[TimedBatch] = []
    for check in all_checks(settings):
        print(check, flush=True)
        count[check.state] += 1
    for name in settings.reviewers:
        check, timed = _try(name, settings)
        print(check, flush=True)
        count[check.state] += 1
        if timed:
            chosen.append(choose(timed))
            print(rates(timed, chosen[-1]))
    if chosen:
        most = max(batch.tokens for batch in chosen)
        tokens = max(most, settings.batch.tokens)
        print(f"\n[batch]\nitems = {max(batch.items for batch in chosen)}\ntokens = {tokens}\n")
    print(", ".join(f"{count[state]} {state}" for state in State))
    return int(count[State.FAIL] > 0)


def choose(timed: Sequence[TimedBatch]) -> TimedBatch:
    """The smallest batch whose rate is near the best."""
    best = max(map(_rate, timed))
    return next(batch for batch in timed if _rate(batch) >= _NEAR_BEST * best)


def rates(timed: Sequence[TimedBatch], chosen: TimedBatch) -> str:
    """A line a batch size; `*` marks the choice."""
    head = f"      {'items':>6} {'tokens':>7} {'ms':>9} {'reviews/s':>10}"
    rows = (
        f"      {one.items:>6} {one.tokens:>7} {one.duration_ns / 1e6:>9.1f} {_rate(one):>10.0f}"
        + ("  *" if one is chosen else "")
        for one in timed
    )
    return "\n".join([head, *rows])


def _try(name: str, settings: CloudSettings) -> tuple[Check, list[TimedBatch]]:
    try:
        reviewer = load_reviewer(name)
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(settings.threads)
        timed = warm_up(reviewer, settings.batch, SystemClock())
    except FusionError as error:
        return Check(State.FAIL, "reviewer", f"{name}: {error}", "mend reviewers"), []
    if not timed:
        return Check(State.WARN, "reviewer", f"{reviewer.name}: loads", "not tried: nobody knows an item for it"), []
    return Check(State.OK, "reviewer", f"{reviewer.name}: answers made-up items"), timed


def _rate(batch: TimedBatch) -> float:
    return batch.items / max(batch.duration_ns, 1) * 1e9
