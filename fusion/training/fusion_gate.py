"""The gate of a new fusion model: as good, with any sensors, as the bundled one and as the best ever bundled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fusion.errors import ModelError
from fusion.model.checkpoint import WEIGHTS_NAME, load_fusion
from fusion.preparation.fusion_spec import FusionSpec
from fusion.training.bundle import card_section
from fusion.training.fusion_data import SceneSampler
from fusion.training.fusion_metrics import FEWER_MAY_LOSE, HELD, better, evaluate_fusion, lost
from fusion.training.scene_features import FeatureCache

HELD_SECTION = "Fusion model, held to"
"""On the card: the best figures ever bundled, and on which scenes."""
SCENES = "scenes_sha256"
_COMPARED = ("boxes", "class_scores", "row_truth", "label", "condition", "asked", "box3d", "clear", "intent")


def refuse_worse(
    figures: Mapping[str, Mapping[str, float]], folder: Path, unseen: SceneSampler
) -> dict[str, float | str]:
    """The best figures so far, for the card, when a new model's `figures` by sensor pattern on the scenes `unseen` are
    as good as those of the model bundled in `folder` on them, and as the best on the bundle's card if it is of the same
    scenes: small losses do not add up.

    Raises `ModelError` when one is worse by more than it may be. A model for another trunk cannot be compared, and
    gives way.
    """
    scenes, found = _sha256(unseen.cache), _flat(figures)
    held = _held_to(folder, unseen, scenes)
    for name, least in held.items():
        pattern, _, figure = name.partition(": ")
        allowed = HELD[figure] if pattern == "all" else max(HELD[figure], FEWER_MAY_LOSE)
        value = found.get(name)
        if not lost(figure, least, value) <= allowed + 1e-9:
            told = "not told" if value is None else f"{value:.3f}"
            raise ModelError(
                f"{folder}: {figure} of the new fusion model (sensors: {pattern}) is {told} on the validation "
                f"scenes, held to {least:.3f} within {allowed}; kept the old one"
            )
    return {**_best(held, found), SCENES: scenes}


def _held_to(folder: Path, unseen: SceneSampler, scenes: str) -> dict[str, float]:
    if not (folder / WEIGHTS_NAME).is_file() or FusionSpec.load(folder).profile != unseen.spec.profile:
        return {}
    bundled = load_fusion(folder)
    shipped = _flat(evaluate_fusion(bundled, SceneSampler(unseen.cache, bundled.spec)))
    told = card_section(folder, HELD_SECTION)
    if told.get(SCENES) != scenes:
        return shipped
    return _best(shipped, {name: float(value) for name, value in told.items() if name != SCENES})


def _best(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    best = {**one, **other}
    for name in one.keys() & other.keys():
        best[name] = better(name.partition(": ")[2], one[name], other[name])
    return best


def _flat(figures: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"{pattern}: {name}": told[name] for pattern, told in figures.items() for name in HELD if name in told}


def _sha256(cache: FeatureCache) -> str:
    """Of what is there in the scenes, and what the detector made of them."""
    digest = hashlib.sha256(json.dumps([cache.stems, cache.transcripts]).encode())
    for name in _COMPARED:
        digest.update(np.ascontiguousarray(getattr(cache.features, name)).tobytes())
    return digest.hexdigest()
