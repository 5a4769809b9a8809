"""The doctor's findings as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from edge_node.doctor.trial import Candidate, Tried

_HEAD = (
    f"{'engine':<12} {'threads':>7} {'bits':>5} {'detector p50':>13} {'p99':>7} {'perception p50':>15} {'p99':>7}"
    "  against the reference"
)


def trial_table(tried: Sequence[Tried], chosen: Tried | None) -> str:
    """Milliseconds a sample, a line a candidate; `*` marks the choice."""
    return "\n".join([_HEAD, *(_row(one, chosen) for one in tried)])


def engine_toml(chosen: Candidate) -> str:
    """The `[engine]` lines of `edge.toml`."""
    return f'[engine]\nbackend = "{chosen.backend}"\nthreads = {chosen.threads}\nprecision = "{chosen.precision}"\n'


def _row(one: Tried, chosen: Tried | None) -> str:
    way = one.candidate
    start = f"{way.backend:<12} {way.threads:>7} {way.precision:>5}"
    if one.agreement is None:
        return f"{start}  cannot run: {one.error}"
    figures = f"{_pair(one.detector_ms, 13)} {_pair(one.perception_ms, 15)}"
    said = (
        f"{one.agreement.matched:.1%} of {one.agreement.detections} matched, {one.agreement.codes:.2%} of codes equal"
    )
    if not one.fits:
        said = f"refused: {one.agreement.reason}"
    return f"{start} {figures}  {said}{'  *' if one is chosen else ''}"


def _pair(values: Iterable[float], width: int) -> str:
    p50, p99 = np.percentile(list(values), (50, 99))
    return f"{p50:{width}.2f} {p99:7.2f}"
