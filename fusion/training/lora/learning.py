"""A reviewer's language model learns through low-rank matrices, and what comes of it is merged and written."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusion.errors import ModelError
from fusion.review.folder import CALIBRATION
from fusion.review.item_cache import ItemCache
from fusion.review.together import TOGETHER, combinations_of, save_together
from fusion.training.bundle import write_card, write_digests
from fusion.training.lora import low_rank
from fusion.training.lora.adapter import Description, check_base, describe, described
from fusion.training.lora.bases import Base, check_items, open_base
from fusion.training.lora.recipe import LoraRecipe
from fusion.training.resuming import begun_with_items, decisive
from fusion.training.reviewer_batches import UNDISTURBED, disturbed_batch
from fusion.training.slot_training import Checkpoints, SlotNetwork, learn_slots, measure_slots
from fusion.training.variants import refuse_existing, staged

ADAPTER = "adapter"
_COMPARED_ROWS = 256
_ALLOWED_LOSS = 0.01
"""Of verdicts right on validation items, against the start."""


@dataclass(frozen=True, slots=True)
class LoraRun:
    """What training left: how the served reviewer is called, figures on validation items, and what learnt."""

    name: str
    start: dict[str, float]
    best: dict[str, float]
    served: dict[str, float]
    losses: tuple[float, ...]
    trainable: int
    parameters: int
    merged_difference: float


def train_lora(
    reviewer: str,
    cache: ItemCache,
    validation: ItemCache,
    recipe: LoraRecipe,
    out: Path,
    *,
    data: str = "",
    resume: bool = False,
    quiet: bool = False,
) -> LoraRun:
    """Adapt `reviewer` to the cache's task. `out` then has the served reviewer, `adapter/`, card and digests, whole.

    The same arguments and thread count give the same files, whether or not the run was resumed; its state is kept in
    `out` with `-run` behind it until then. Raises `ModelError` for a result that is worse than its start, `InputError`
    when `out` is there already, and `ConfigError` for a resumed run that was begun by another recipe, base or items.
    """
    low_rank.require_peft()
    refuse_existing(out)
    torch.manual_seed(recipe.seed)
    torch.set_num_threads(recipe.threads)
    base = open_base(reviewer, cache.task)
    check_items(base, cache)
    base.module.requires_grad_(requires_grad=False)
    start = measure_slots(base.network, validation, recipe.batch)
    parameters = sum(parameter.numel() for parameter in base.module.parameters())
    wrapped = low_rank.put_in(base.module, base.text, recipe)
    learnt = {**low_rank.learnt_in(wrapped), **base.learn_words()}
    begun = {"recipe": decisive(recipe), "reviewer": base.sha256, **begun_with_items(cache, validation)}
    kept = Checkpoints(out.with_name(f"{out.name}-run"), begun, resume)
    run = learn_slots(base.network, learnt, cache, validation, recipe, checkpoints=kept, quiet=quiet)
    best = run.best | measure_slots(base.network, validation, recipe.batch)
    _gate(best, start, base.label, len(validation))
    draft = out.with_name(f"{out.name}-draft")
    shutil.rmtree(draft, ignore_errors=True)
    (draft / ADAPTER).mkdir(parents=True)
    before = _probabilities(base.network, validation)
    low_rank.write(wrapped, draft / ADAPTER)
    low_rank.merge(wrapped)
    base.settle()
    base.save_words(draft / ADAPTER)
    describe(draft / ADAPTER, Description(cache.task, base.label, base.sha256))
    difference = float(np.abs(_probabilities(base.network, validation) - before).max())
    base.save(draft)
    evidence = base.evidence_folder(draft)
    save_together(evidence, cache.task, combinations_of(cache.columns["truth"]))
    facts = base.calibrate(draft, validation)
    for name in (CALIBRATION, TOGETHER):
        shutil.copyfile(evidence / name, draft / ADAPTER / name)
    served = measure_slots(base.served(draft), validation, recipe.batch)
    trainable = sum(parameter.numel() for parameter in learnt.values())
    losses = tuple(figures["nll"] for figures in run.epochs)
    done = LoraRun(base.name(out), start, best, served, losses, trainable, parameters, difference)
    _card(draft, base, recipe, done, facts, {"train": len(cache), "validation": len(validation), "from": data})
    write_digests(draft)
    draft.replace(out)
    shutil.rmtree(kept.folder, ignore_errors=True)
    return done


def merge_adapter(reviewer: str, adapter: Path, out: Path) -> str:
    """Write the reviewer that `adapter` makes of its base `reviewer` into the new folder `out`; returns its name.

    Raises `ModelError` for an adapter of another base, `InputError` when `out` is there already.
    """
    low_rank.require_peft()
    with staged(out) as draft:
        told = described(adapter)
        base = open_base(reviewer, told.task)
        check_base(adapter, told, base.label, base.sha256)
        base.take_words(adapter)
        low_rank.merge(low_rank.read_into(base.module, adapter))
        base.save(draft)
        for name in (CALIBRATION, TOGETHER):
            if (adapter / name).is_file():
                shutil.copyfile(adapter / name, base.evidence_folder(draft) / name)
        facts: dict[str, object] = {"Base": _of_base(base), "Adapter": {"sha256": _sha256(adapter / low_rank.WEIGHTS)}}
        write_card(draft, f"{told.task.name}: {base.label} with an adapter merged", facts)
        write_digests(draft)
    return base.name(out)


def _gate(best: dict[str, float], start: dict[str, float], label: str, items: int) -> None:
    """What is known by `items` may be their luck: verdicts may fall by a standard error."""
    allowed = max(_ALLOWED_LOSS, 0.5 / items**0.5)
    if not best["nll"] < start["nll"] or best["verdict"] < start["verdict"] - allowed:
        raise ModelError(
            f"{label}: adapted it is right in {best['verdict']:.3f} of the validation items at a log-loss of "
            f"{best['nll']:.3f}, at the start {start['verdict']:.3f} and {start['nll']:.3f}; nothing was written: give "
            "more items, or another --learning-rate or --rank"
        )


@torch.inference_mode()
def _probabilities(network: SlotNetwork, cache: ItemCache) -> Any:
    """Of all options of some items in one row each, (N, options of all slots)."""
    rows = np.arange(min(len(cache), _COMPARED_ROWS))
    batch, _ = disturbed_batch(cache, rows, UNDISTURBED, np.random.default_rng(0), pixels=False)
    scores = network(batch.to(network.device), network.prefix_cache())
    return np.concatenate([torch.softmax(each.double(), 1).cpu().numpy() for each in scores], 1)


def _card(
    folder: Path, base: Base, recipe: LoraRecipe, run: LoraRun, facts: dict[str, Any], data: dict[str, Any]
) -> None:
    plain = {name: value for name, value in asdict(recipe).items() if not isinstance(value, dict)}
    sections: dict[str, object] = {
        "Data": data,
        "Base": _of_base(base),
        "Recipe": plain | {"targets": ",".join(recipe.targets), "disturbance": str(recipe.disturbance)},
        "Trainable": {
            "parameters": run.trainable,
            "of the reviewer's": run.parameters,
            "share": f"{run.trainable / run.parameters:.4%}",
        },
        "Validation, start": _rounded(run.start),
        "Validation, best epoch, unmerged": _rounded(run.best),
        "Validation, log-loss by epoch": {str(number + 1): round(nll, 6) for number, nll in enumerate(run.losses)},
        "Validation, merged, as served": _rounded(run.served),
        "Merged": {
            "largest difference of a probability": f"{run.merged_difference:.1e}",
            "architecture": "the base's: nothing of the adapter is computed when it is served",
        },
        "Calibration": {
            name: f"ECE {slot['ece_before']:.3f} before, {slot['ece']:.3f} after"
            for name, slot in facts["slots"].items()
        },
        "Adapter": {"sha256": _sha256(folder / ADAPTER / low_rank.WEIGHTS)},
    }
    write_card(folder, f"{base.label}, adapted by LoRA", sections)


def _of_base(base: Base) -> dict[str, str]:
    return {"reviewer": base.label, "sha256": base.sha256}


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
