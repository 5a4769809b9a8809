"""Aligns our evidence with a frozen pretrained vision-language model: only the projector learns.

That is the first stage of LLaVA (Liu et al., 2023), with verdicts for captions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fusion.review.hub.network import HubNetwork
from fusion.review.item_cache import ItemCache
from fusion.review.projector import EvidenceProjector
from fusion.training.reviewer_batches import UNDISTURBED, disturbed_batch
from fusion.training.slot_training import Checkpoints, SlotRecipe, SlotRun, learn_slots

_STATISTICS_ROWS = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorRecipe(SlotRecipe):
    """What a run is made of; `hidden` is the width of the projector's perceptrons."""

    hidden: int = 256


def train_projector(
    cache: ItemCache,
    validation: ItemCache,
    recipe: ProjectorRecipe,
    made: Callable[[EvidenceProjector], HubNetwork],
    projector: EvidenceProjector,
    *,
    checkpoints: Checkpoints | None = None,
    quiet: bool = False,
) -> SlotRun:
    """Train `projector` in place, inside the network that `made` makes around it; the best epoch's weights stay.

    The same cache, recipe, model and thread count give the same weights, whether or not the run was resumed in between.
    Raises as `learn_slots`.
    """
    rng = np.random.default_rng(recipe.seed)
    rows = rng.permutation(len(cache))[:_STATISTICS_ROWS]
    projector.fit_statistics(disturbed_batch(cache, rows, UNDISTURBED, rng, pixels=False)[0])
    network = made(projector)
    network.requires_grad_(requires_grad=False)
    projector.requires_grad_(requires_grad=True)
    prefix = [(keys.detach(), values.detach()) for keys, values in network.prefix_cache()]
    learnt = dict(projector.named_parameters())
    return learn_slots(network, learnt, cache, validation, recipe, prefix=prefix, checkpoints=checkpoints, quiet=quiet)
