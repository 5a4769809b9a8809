"""Reviewers that can be adapted: what of them learns, and how they are written, so that `train lora` knows neither."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from fusion.errors import ConfigError, ModelError
from fusion.evaluation.reviewer import calibrate_reviewer, escalated
from fusion.review.checkpoint import save_reviewer
from fusion.review.folder import read_json
from fusion.review.hub.model import HubModel, fingerprints_of, open_model, told_of
from fusion.review.hub.name import HubName
from fusion.review.hub.projected import load_projected, save_projected
from fusion.review.hub.reviewer import HubReviewer, network_of
from fusion.review.item_cache import ItemCache
from fusion.review.layout import FeatureLayout
from fusion.review.mini import MiniReviewer
from fusion.task import Task
from fusion.training.lora.adapter import load_words, save_words
from fusion.training.lora.low_rank import refuse_quantized
from fusion.training.lora.words import grow
from fusion.training.projectors import calibrate_projected
from fusion.training.slot_training import SlotNetwork

HUB, MINI = "hf", "mini"


class Base(Protocol):
    """A loaded reviewer with the questions of a task; `label` and `sha256` say which weights it has."""

    label: str
    sha256: str

    @property
    def network(self) -> SlotNetwork:
        """Answers; its language model is what adapters are put into."""

    @property
    def module(self) -> nn.Module:
        """The same as a module."""

    @property
    def text(self) -> nn.Module:
        """The language model, without its head."""

    @property
    def layout(self) -> FeatureLayout:
        """The evidence it reads."""

    @property
    def profiles(self) -> frozenset[str]:
        """The trunks whose maps it reads."""

    def learn_words(self) -> dict[str, nn.Parameter]:
        """What else learns: rows of words that it did not have, where a task has some."""

    def settle(self) -> None:
        """Make what `learn_words` gave plain weights again."""

    def save_words(self, folder: Path) -> None:
        """Write the rows of new words beside an adapter."""

    def take_words(self, folder: Path) -> None:
        """Read them."""

    def save(self, out: Path) -> None:
        """Write what is served, without calibration, under `out`."""

    def name(self, out: Path) -> str:
        """What is served from `out` is called, `mini:...` or `hf:...`."""

    def evidence_folder(self, out: Path) -> Path:
        """Where under `out` its calibration and `together.json` lie."""

    def calibrate(self, out: Path, validation: ItemCache) -> dict[str, Any]:
        """Fit temperatures of what `save` wrote; returns what is to say of the fit."""

    def served(self, out: Path) -> SlotNetwork:
        """The network as it was written."""


def open_base(name: str, task: Task) -> Base:
    """The reviewer called `mini:...` or `hf:...?projector=...`, asked the questions of `task`.

    Raises `ConfigError` or `ModelError`.
    """
    scheme, _, argument = name.partition(":")
    kinds: dict[str, Callable[[str, Task], Base]] = {MINI: _MiniBase, HUB: _HubBase}
    if scheme not in kinds or not argument:
        raise ConfigError(
            f"fusion train lora: --reviewer {name or 'is missing'}: give mini:TASK-OR-FOLDER, or "
            "hf:NAME-OR-PATH?projector=FOLDER"
        )
    return kinds[scheme](argument, task)


def check_items(base: Base, cache: ItemCache) -> None:
    """Raises `ConfigError` where the items are not such as the base reads."""
    if cache.layout != base.layout:
        raise ConfigError(
            f"fusion train lora: {base.label} reads other evidence than that of task {cache.task.name}: an adapter "
            "keeps the way evidence is read, so classes, conditions, sensors and picture size must be the same"
        )
    if cache.profile.sha256 not in base.profiles:
        known = ", ".join(sorted(sha256[:12] for sha256 in base.profiles))
        raise ConfigError(
            f"fusion train lora: the items are of trunk {cache.profile.sha256[:12]}; {base.label} reads {known}"
        )


class _MiniBase:
    """`mini:`: reviewer-mini; for another task its vocabulary grows."""

    network: Any

    def __init__(self, argument: str, task: Task) -> None:
        reviewer = MiniReviewer.load(argument)
        files = reviewer.files
        self.label, self.sha256 = f"{MINI}:{files.task.name}", files.fingerprint
        self._task, self._profiles = task, files.profiles
        self.network, self._tokenizer, self._words = grow(files.network, files.tokenizer, files.task, task)

    @property
    def module(self) -> nn.Module:
        return self.network  # type: ignore[no-any-return]

    @property
    def text(self) -> nn.Module:
        return self.network.vlm.model.language_model  # type: ignore[no-any-return]

    @property
    def layout(self) -> FeatureLayout:
        return self.network.layout  # type: ignore[no-any-return]

    @property
    def profiles(self) -> frozenset[str]:
        return frozenset(self._profiles)

    def learn_words(self) -> dict[str, nn.Parameter]:
        return self._words.learn()

    def settle(self) -> None:
        self._words.settle()

    def save_words(self, folder: Path) -> None:
        save_words(folder, self._words.tensors())

    def take_words(self, folder: Path) -> None:
        if not self._words.set(load_words(folder)):
            raise ModelError(f"{folder}: does not have the words of its task; train it again")

    def save(self, out: Path) -> None:
        folder = self.evidence_folder(out)
        save_reviewer(folder, self._task, self.network, self._tokenizer, list(self._profiles.values()))

    def name(self, out: Path) -> str:
        return f"{MINI}:{self.evidence_folder(out)}"

    def evidence_folder(self, out: Path) -> Path:
        return out / "reviewer"

    def calibrate(self, out: Path, validation: ItemCache) -> dict[str, Any]:
        return calibrate_reviewer(self.evidence_folder(out), validation, rows=escalated(validation))

    def served(self, out: Path) -> SlotNetwork:
        return MiniReviewer.load(str(self.evidence_folder(out))).files.network


class _HubBase:
    """`hf:` with a projector: a pretrained model, whose projector stays as it is."""

    network: Any

    def __init__(self, argument: str, task: Task) -> None:
        called = HubName.parse(argument)
        if not called.projector or called.dtype == "float16":
            raise ConfigError(
                f"fusion train lora: --reviewer hf:{argument}: give hf:{called.where}?projector=FOLDER, made by "
                "'fusion train projector', and float32 or bfloat16 to learn in"
            )
        if called.folder is not None and (called.folder / "config.json").is_file():  # told before it is loaded
            refuse_quantized(read_json(called.folder / "config.json"), called.where)
        self._called, self._task = called, task
        self._opened = open_model(called)
        refuse_quantized(self._opened.family.model.config.to_dict(), called.where)
        projected = load_projected(Path(called.projector), self._opened)
        self._projected = replace(projected, files=replace(projected.files, task=task))
        self.label = f"{HUB}:{self._opened.label}"
        self.sha256 = _digest(self._opened.fingerprint, projected.fingerprint)
        with told_of(called):
            self.network = network_of(task, self._opened, self.layout.crop, self._projected)

    @property
    def module(self) -> nn.Module:
        return self.network  # type: ignore[no-any-return]

    @property
    def text(self) -> nn.Module:
        return self._opened.family.text  # type: ignore[no-any-return]

    @property
    def layout(self) -> FeatureLayout:
        return self._projected.files.layout

    @property
    def profiles(self) -> frozenset[str]:
        return frozenset(self._projected.files.profiles)

    def learn_words(self) -> dict[str, nn.Parameter]:
        return {}

    def settle(self) -> None:
        pass

    def save_words(self, folder: Path) -> None:
        pass

    def take_words(self, folder: Path) -> None:
        pass

    def save(self, out: Path) -> None:
        from transformers.utils import logging

        logging.disable_progress_bar()
        model, projector = out / "model", self.evidence_folder(out)
        self._opened.family.model.save_pretrained(model, safe_serialization=True)
        self._opened.family.processor.save_pretrained(model)
        files = self._projected.files
        save_projected(projector, self._task, files.projector, list(files.profiles.values()), self._written(model))

    def name(self, out: Path) -> str:
        kept = f"device={self._called.device}&dtype={self._called.dtype}"
        return f"{HUB}:{out / 'model'}?projector={self.evidence_folder(out)}&{kept}"

    def evidence_folder(self, out: Path) -> Path:
        return out / "projector"

    def calibrate(self, out: Path, validation: ItemCache) -> dict[str, Any]:
        written = self._written(out / "model")
        projected = load_projected(self.evidence_folder(out), written)
        return calibrate_projected(
            self.evidence_folder(out), HubReviewer(self._called, self._task, written, projected), validation
        )

    def served(self, out: Path) -> SlotNetwork:
        """A model is written in the precision that it has; the projector in half."""
        projected = load_projected(self.evidence_folder(out), self._written(out / "model"))
        return network_of(self._task, self._opened, self.layout.crop, projected)

    def _written(self, folder: Path) -> HubModel:
        return HubModel(self._opened.family, "merged", *fingerprints_of(folder, self._called))


def _digest(*parts: str) -> str:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()
