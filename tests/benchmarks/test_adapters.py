"""What `benchmarks/adapters.py` compares is what it says."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fusion.review.item_cache import ItemCache
from fusion.review.mini import MiniReviewer
from fusion.review.synthetic import write_synthetic_cache
from fusion.task import Task
from fusion.training.lora import low_rank
from fusion.training.reviewer_batches import UNDISTURBED, disturbed_batch
from fusion.training.slot_training import told_right
from fusion.types import Box2D, Box3D, TruthObject

METHODS = {
    "words": (1e-2, 0, ()),
    "lora": (1e-2, 2, ("q_proj", "v_proj", "projector")),
    "bottleneck": (1e-2, 4, ()),
    "full": (1e-3, 0, ()),
}


@pytest.fixture(scope="module")
def task(adaptation: SimpleNamespace) -> Task:
    return adaptation.dispatch.dispatch_task(Task.load("yard"))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def begin(adaptation: SimpleNamespace, task: Task) -> Any:
    return lambda kind: adaptation.methods.begin(adaptation.methods.Method(kind, *METHODS[kind]), task, 0)


@pytest.fixture(scope="module")
def cache(task: Task, tmp_path_factory: pytest.TempPathFactory) -> ItemCache:
    """The synthetic items are of the shapes that the bundled reviewer reads, not of what it knows."""
    folder = tmp_path_factory.mktemp("items")
    files = MiniReviewer.load("yard").files
    write_synthetic_cache(folder, task, next(iter(files.profiles.values())), 8)
    return ItemCache.load(folder)


def _thing(label: str, condition: str, x: float = 5.0, visibility: float = 1.0) -> TruthObject:
    return TruthObject(1, label, condition, Box2D(0, 0, 9, 9), Box3D(x, 0, 0, 1, 1, 1, 0), visibility=visibility)


@pytest.mark.parametrize(
    ("thing", "told"),
    [
        (None, ("nobody", "harmless", "nowhere", "nil")),
        (_thing("drum", "leaking"), ("spill-team", "high", "near", "all")),
        (_thing("drum", "dented", x=8.0), ("spill-team", "low", "middle", "all")),
        (_thing("crate", "dented", visibility=0.5), ("carpenter", "low", "near", "part")),
        (_thing("person", "obstructing", x=12.0), ("guard", "high", "far", "all")),
        (_thing("pallet", "obstructing"), ("mover", "low", "near", "all")),
        (_thing("cone", "ok"), ("nobody", "harmless", "near", "all")),
    ],
)
def test_the_sites_rules(adaptation: SimpleNamespace, thing: TruthObject | None, told: tuple[str, ...]) -> None:
    rules = adaptation.dispatch
    assert tuple(slot.options[i] for slot, i in zip(rules.SLOTS, rules.answers(thing), strict=True)) == told


@pytest.mark.parametrize("kind", METHODS)
def test_every_method_begins_as_the_same_reviewer_and_counts_what_learns(
    kind: str, begin: Any, cache: ItemCache
) -> None:
    batch, _ = disturbed_batch(cache, np.arange(8), UNDISTURBED, np.random.default_rng(0), pixels=False)
    frozen, adapted = begin("words"), begin(kind)
    with torch.inference_mode():
        for was, now in zip(frozen.network(batch), adapted.network(batch), strict=True):
            torch.testing.assert_close(now, was, atol=1e-5, rtol=1e-5)
    loss = torch.stack([scores.square().sum() for scores in adapted.network(batch)]).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = list(adapted.network.parameters())
    learning = {id(p) for p in parameters if p.requires_grad}
    assert learning == {id(p) for p in adapted.learnt.values()}
    assert adapted.trainable == sum(p.numel() for p in parameters if p.requires_grad)
    assert adapted.whole == sum(p.numel() for p in begin("full").network.parameters())
    if kind in ("lora", "words"):
        assert adapted.trainable <= 0.006 * adapted.whole


def test_what_is_forgotten_is_told_by_the_old_questions(begin: Any, cache: ItemCache) -> None:
    adapted = begin("lora")
    plain = MiniReviewer.load("yard").files.network
    batch, _ = disturbed_batch(cache, np.arange(8), UNDISTURBED, np.random.default_rng(0), pixels=False)
    with torch.inference_mode():
        for was, now in zip(plain(batch), adapted.asked(batch), strict=True):
            torch.testing.assert_close(now, was, atol=1e-5, rtol=1e-5)
        for parameter in low_rank.learnt_in(adapted.wrapped).values():
            parameter.add_(0.1)
        assert any(
            not torch.allclose(was, now, atol=1e-2) for was, now in zip(plain(batch), adapted.asked(batch), strict=True)
        )


def test_kept_is_over_full_tuning_of_the_same_seed(adaptation: SimpleNamespace) -> None:
    report, full = adaptation.report, adaptation.report.FULL
    scenes = np.repeat(np.arange(20), 5)
    whole, half = np.ones((100, 2), bool), np.ones((100, 2), bool)
    half[::2, 0] = False
    runs = [
        {"method": name, "seed": 0, "learning_rate": 1e-3, "trainable": 10, "parameters": 1000, "old_task": 0.5,
         "validation": {"nll": 1.0}, "seconds": 1.0}
        for name in (full, "LoRA")
    ]  # fmt: skip
    told = report.summary(runs, {(full, 0): whole, ("LoRA", 0): half}, scenes, 0.75)
    assert told["LoRA"]["kept"][0] == pytest.approx(0.75)
    assert told["LoRA"]["kept_verdicts"][0] == pytest.approx(0.5)
    assert told["LoRA"]["forgotten"] == pytest.approx(0.25)
    text = report.markdown({"methods": json.loads(json.dumps(told)), "old_task_before": 0.75})
    assert "| LoRA | 10 | 1.00% | 1 | 0.750 [" in text


def test_accuracy_is_told_slot_by_slot(begin: Any, cache: ItemCache) -> None:
    right, nll = told_right(begin("words").network, cache, 3)
    assert right.shape == (8, 4)
    assert nll > 0
