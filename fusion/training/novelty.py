"""Reference tokens of a fusion model: where its training items lie, so that a device can tell what is unlike them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fusion.model.build import FusionModel
from fusion.perception.novelty import ORDINARY, ReferenceTokens, TokenCloud, sensors_key
from fusion.training.fusion_data import PATTERNS, SceneSampler
from fusion.training.fusion_targets import assign
from fusion.types import Float32Array, Modality

SECTION = "Novelty"
"""On the card."""
_PATTERNS = {
    sensors_key((Modality.CAMERA, Modality.LIDAR)): "all",
    sensors_key((Modality.CAMERA,)): "no lidar",
}
_TOGETHER = 32


def learn_references(
    model: FusionModel, learn: SceneSampler, validate: SceneSampler
) -> tuple[ReferenceTokens, dict[str, Any]]:
    """Clouds of the training scenes' tokens, scaled on the validation scenes; and what the card says of them."""
    clouds, facts = {}, dict[str, Any]()
    for key, pattern in _PATTERNS.items():
        tokens, labels, _ = item_tokens(model, learn, pattern)
        unseen, _, right = item_tokens(model, validate, pattern)
        clouds[key] = cloud = TokenCloud.fit(tokens, labels).scaled(unseen)
        distances = cloud.distances(unseen)
        facts |= {
            f"{key}: training items": len(tokens),
            f"{key}: a distance of 1, in units of Mahalanobis over sqrt(D)": round(cloud.scale, 3),
            f"{key}: validation items beyond 1": round(float((distances > 1).mean()), 4),
            f"{key}: of those whose label is wrong": round(float((distances[~right] > 1).mean()), 4),
        }
    return ReferenceTokens(clouds), {"ordinary share": ORDINARY, **facts}


@torch.inference_mode()
def item_tokens(
    model: FusionModel, sampler: SceneSampler, pattern: str
) -> tuple[Float32Array, NDArray[np.int64], NDArray[np.bool_]]:
    """Of all detected items: tokens (N, D), labels (N,), the last being "nothing", and whether the model tells them."""
    model.eval()
    classes = len(model.spec.classes)
    tokens, labels, right = [], [], []
    scenes = range(len(sampler.cache))
    for start in tqdm(range(0, len(scenes), _TOGETHER), desc=f"tokens, {pattern}", unit="batch"):
        chosen = [sampler.evaluation(i, PATTERNS[pattern]) for i in scenes[start : start + _TOGETHER]]
        batch = sampler.gather(chosen)
        outputs, _, _ = model(batch)
        targets, boxed = assign(batch, model.anchors, classes), batch["box_valid"]
        tokens.append(outputs.item_tokens[boxed].numpy())
        labels.append(targets.label[boxed].numpy())
        right.append((outputs.label_logits.argmax(-1) == targets.label)[boxed].numpy())
    return np.concatenate(tokens), np.concatenate(labels), np.concatenate(right)
