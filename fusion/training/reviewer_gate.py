"""The gate of a new reviewer: as good as the bundled one, and as the best ever bundled, on today's validation items."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fusion.errors import ModelError
from fusion.evaluation.reviewer import escalated
from fusion.review.folder import DESCRIPTION
from fusion.review.item_cache import ItemCache
from fusion.review.mini import MiniReviewer
from fusion.training.bundle import card_section
from fusion.training.reviewer import measure

HELD_SECTION = "Reviewer, held to"
"""On the card: the best figures ever bundled, and on which items."""
ITEMS = "items_sha256"
MAY_LOSE = 0.01
"""Of verdicts right of all items; of the escalated, which are few, a standard error if that is more."""
_ALL, _ESCALATED = "verdicts right", "verdicts right, escalated"


def held_to(folder: Path, validation: ItemCache) -> dict[str, float]:
    """What a new reviewer is held to: shares of verdicts right of the one in the bundle `folder` on the items
    `validation`, or the best on the bundle's card if it is of the same items and better: small losses do not add up.

    Empty where there is no reviewer, and for one of another trunk or task, which cannot be compared and gives way.
    """
    if not (folder / "reviewer" / DESCRIPTION).is_file():
        return {}
    bundled = MiniReviewer.load(str(folder / "reviewer"))
    if validation.profile.sha256 not in bundled.profiles or bundled.task.slots != validation.task.slots:
        return {}
    shipped, told = verdicts_right(bundled, validation), card_section(folder, HELD_SECTION)
    if told.get(ITEMS) != _sha256(validation):
        return shipped
    return {name: max(value, float(told.get(name, 0.0))) for name, value in shipped.items()}


def refuse_worse(
    reviewer: MiniReviewer, validation: ItemCache, held: Mapping[str, float], folder: Path
) -> dict[str, float | str]:
    """The best figures so far, for the card. Raises `ModelError` when `reviewer` is right in fewer of the items
    `validation` than `held` tells, by more than it may be.
    """
    found = verdicts_right(reviewer, validation)
    few = 0.5 / max(1, int(escalated(validation).sum())) ** 0.5
    for name, least in held.items():
        allowed = MAY_LOSE if name == _ALL else max(MAY_LOSE, few)
        if not found[name] >= least - allowed - 1e-9:
            raise ModelError(
                f"{folder}: {name} of the new reviewer {found[name]:.3f} on the validation items, held to "
                f"{least:.3f} within {allowed:.3f}; kept the old one"
            )
    return {**{name: round(max(v, held.get(name, 0.0)), 4) for name, v in found.items()}, ITEMS: _sha256(validation)}


def verdicts_right(reviewer: MiniReviewer, cache: ItemCache) -> dict[str, float]:
    """Without pixels, of all items and of those the device would escalate, if there are any."""
    network, sent = reviewer.files.network, escalated(cache)
    found = {_ALL: measure(network, cache)["verdict"]}
    if sent.any():
        found[_ESCALATED] = measure(network, cache.take(sent))["verdict"]
    return found


def _sha256(cache: ItemCache) -> str:
    digest = hashlib.sha256(f"{cache.profile.sha256} {cache.task.prompt_sha256}".encode())
    for name in ("scene", "truth", "class_scores", "opinion", "evidence_bytes"):
        digest.update(np.ascontiguousarray(cache.columns[name]).tobytes())
    return digest.hexdigest()
