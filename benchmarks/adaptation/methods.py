"""The ways of adapting the bundled reviewer that are compared: each learns by the same loss, items, steps and words."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from adaptation import bottleneck
from fusion.review.item_cache import ItemCache
from fusion.review.mini import MiniReviewer
from fusion.review.model import ReviewerNetwork
from fusion.review.prompt import PromptIds
from fusion.task import Task
from fusion.training.lora import low_rank
from fusion.training.lora.recipe import LoraRecipe
from fusion.training.lora.words import NewWords, grow
from fusion.training.reviewer_batches import Disturbance
from fusion.training.slot_training import SlotRun, learn_slots

BATCH = 64
"""Pixels are left out: what is compared reads maps, tokens and opinions."""


@dataclass(frozen=True)
class Method:
    """One way: its learning rate, and what it puts in; `targets` of LoRA alone. `size` is a rank or a width."""

    kind: str
    learning_rate: float
    size: int = 0
    targets: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As the table has it."""
        if self.kind == "lora":
            return f"LoRA r{self.size} {','.join(t.removesuffix('_proj') for t in self.targets)}"
        return {"bottleneck": f"bottleneck adapter {self.size}", "words": "new words alone", "full": "full tuning"}[
            self.kind
        ]


@dataclass(eq=False)
class Adapted:
    """The bundled reviewer on its way to another task. `asked` is it with the old task's prompt; `wrapped` peft's."""

    network: ReviewerNetwork
    asked: ReviewerNetwork
    words: NewWords
    learnt: dict[str, nn.Parameter]
    whole: int
    wrapped: Any = None

    @property
    def trainable(self) -> int:
        """Numbers that learn, those of new words included."""
        return sum(parameter.numel() for parameter in self.learnt.values())


def begin(method: Method, task: Task, seed: int) -> Adapted:
    """The bundled yard reviewer as the method begins with it."""
    torch.manual_seed(seed)
    files = MiniReviewer.load("yard").files
    network, tokenizer, words = grow(files.network, files.tokenizer, files.task, task)
    asked = ReviewerNetwork(network.vlm, network.projector, PromptIds.of(files.task, tokenizer)).eval()
    whole = sum(parameter.numel() for parameter in network.parameters())
    if method.kind == "full":
        network.requires_grad_(requires_grad=True)
        return Adapted(network, asked, words, dict(network.named_parameters()), whole)
    network.requires_grad_(requires_grad=False)
    learnt, wrapped = {}, None
    text = network.vlm.model.language_model
    if method.kind == "lora":
        wrapped = low_rank.put_in(
            network, text, LoraRecipe(rank=method.size, alpha=2 * method.size, targets=method.targets)
        )
        learnt |= low_rank.learnt_in(wrapped)
    elif method.kind == "bottleneck":
        learnt |= bottleneck.put_in(text, method.size)
    network.eval()
    return Adapted(network, asked, words, learnt | words.learn(), whole, wrapped)  # peft freezes what is not its own


def adapt(
    method: Method, items: ItemCache, validation: ItemCache, seed: int, epochs: int, drawn: int
) -> tuple[Adapted, SlotRun, float]:
    """Begin, learn, keep the epoch that is best on validation; and how many seconds that took."""
    adapted = begin(method, items.task, seed)
    recipe = LoraRecipe(
        epochs=epochs,
        batch=BATCH,
        learning_rate=method.learning_rate,
        weight_decay=0.01 if method.kind == "full" else 0.0,
        seed=seed,
        threads=1,
        items_per_epoch=drawn,
        disturbance=Disturbance(with_pixels=0.0),
    )
    started = time.perf_counter()
    run = learn_slots(adapted.network, adapted.learnt, items, validation, recipe, quiet=True)
    return adapted, run, time.perf_counter() - started
