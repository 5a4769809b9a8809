"""`hf:`: a pretrained vision-language model answers, in one forward for a whole batch of verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from fusion.codec.synthetic import synthetic_profile
from fusion.errors import ModelError
from fusion.review.base import ANY_PROFILE, PreparedItem, slot_answers
from fusion.review.batch import EvidenceBatch, collate, to_pixels
from fusion.review.features import ReviewFeatures
from fusion.review.hub.compiled import as_written, compile_layers
from fusion.review.hub.families import CROSS
from fusion.review.hub.model import HubModel, open_model, told_of
from fusion.review.hub.name import HubName
from fusion.review.hub.network import HubNetwork
from fusion.review.hub.projected import Projected, load_projected
from fusion.review.hub.prompt import build_prompt
from fusion.review.hub.writer import RationaleWriter
from fusion.review.preparing import CropPreparer, FeaturePreparer
from fusion.review.price import HubPrice
from fusion.review.rationale import CarryOn
from fusion.review.synthetic import example_evidence, synthetic_evidence
from fusion.review.temperatures import load_temperatures
from fusion.review.together import choose
from fusion.task import Task
from fusion.types import Evidence, SlotAnswer


class HubReviewer:
    """Reads an item's crop and, with a projector that was trained for it, the maps, tokens and opinion as well.

    Without a projector it knows nothing of an item that has no crop: every option is as probable as another, so that
    the service, finding the answer unsure, asks the device for one. The maps are not read then, and every trunk served.
    """

    def __init__(self, called: HubName, task: Task, opened: HubModel, projected: Projected | None = None) -> None:
        self.task = task
        self.name = f"hf:{opened.label}:{task.name}@{opened.fingerprint[:12]}"
        self.profiles = frozenset({ANY_PROFILE})
        self._side = called.side
        self.files = None if projected is None else projected.files
        if projected is not None:
            self.name += f"+{projected.fingerprint[:12]}"
            self.profiles = frozenset(projected.files.profiles)
            self._side = projected.files.layout.crop
        self._fitted = load_temperatures(called.calibration, task, self.name)
        self.name += self._fitted.mark
        with told_of(called), torch.inference_mode():
            self.network = network_of(task, opened, self._side, projected, packs=called.compiled)
            self._crop_tokens = self.network.crop_tokens(self._side)
            self._prefix = self.network.prefix_cache()
            self._compiled = called.compiled and not self.network.crosses
            if self._compiled:
                compile_layers(self.network.text)
        self._writer: RationaleWriter | None = None

    @classmethod
    def load(cls, argument: str) -> Self:
        """The reviewer `NAME-OR-PATH?task=TASK` or `?projector=FOLDER`. Raises `ConfigError` or `ModelError`."""
        called = HubName.parse(argument)
        if not called.projector:
            return cls(called, Task.load(called.task), open_model(called))
        if not Path(called.projector).is_dir():  # told before the model is loaded
            raise ModelError(f"{called.projector}: there is no such folder; make it with: fusion train projector")
        opened = open_model(called)
        projected = load_projected(Path(called.projector), opened)
        task = projected.files.task
        if called.task not in {"", task.name}:
            raise ModelError(f"{called.projector}: is of task {task.name}, not {called.task}")
        return cls(called, task, opened, projected)

    @property
    def temperatures(self) -> tuple[float, ...]:
        """What scores are divided by, slot by slot."""
        return self._fitted.values if self.files is None else self.files.temperatures

    @property
    def pixels_only(self) -> bool:
        """See `is_blind`."""
        return self.files is None

    @property
    def on_gpu(self) -> bool:
        """See `scores_here`."""
        return self.network.device.type != "cpu"

    def example(self, seed: int) -> Evidence:
        """A made-up item: with a picture, or of a trunk that its projector reads."""
        if self.files is None:
            return synthetic_evidence(self.task, synthetic_profile(task=self.task.name), seed, pixels=True)[0]
        profile = next(iter(self.files.profiles.values()))
        return example_evidence(self.task, profile, self.files.layout, seed)

    @property
    def price(self) -> HubPrice:
        """What reviews cost, without the model."""
        maps = None if self.files is None else self.files.layout.map_tokens
        return HubPrice(maps, self.network.row_tokens, self._crop_tokens)

    def cost(self, evidence: Evidence) -> int:
        """Visual tokens of the lanes that are read, the text behind them and the tree of answers; at least 1."""
        return self.price(evidence)

    @cached_property
    def preparer(self) -> FeaturePreparer | CropPreparer:
        """What makes rows, without the model."""
        if self.files is None:
            return CropPreparer(self.task.name, self.price, self._side)
        return FeaturePreparer(self.name, self.task.name, self.price, self.files.profiles, self.files.layout)

    def prepare(self, evidence: Evidence) -> PreparedItem:
        """Decode and check one row. Raises `EvidenceError`, or `UnknownProfileError` for a trunk it does not read."""
        return self.preparer(evidence)

    def score(self, batch: Sequence[PreparedItem]) -> list[dict[str, SlotAnswer]]:
        """Answer every slot of every row in one forward."""
        rows = [row.payload for row in batch if isinstance(row.payload, ReviewFeatures)]
        if len(rows) != len(batch):
            raise ModelError("a row was prepared by another reviewer; prepare rows with the reviewer that scores them")
        tables = [table.numpy() for table in self.probabilities(rows)]
        return slot_answers(self.task, tables, choose(tables, None if self.files is None else self.files.together))

    @torch.inference_mode()
    def probabilities(self, rows: Sequence[ReviewFeatures]) -> list[Tensor]:
        """Calibrated probabilities (B, options) float64 a slot; of a row in which nothing can be seen all alike."""
        seen = [index for index, row in enumerate(rows) if self.files is not None or row.crop is not None]
        counts = [len(slot.options) for slot in self.task.slots]
        tables = [torch.full((len(rows), count), 1 / count, dtype=torch.float64) for count in counts]
        if seen:
            scores = self.network(self._batch([rows[index] for index in seen]), self._prefix)
            for table, told, temperature in zip(tables, scores, self.temperatures, strict=True):
                table[seen] = torch.softmax(told.double() / temperature, 1).cpu()
        return tables

    def explain(
        self, row: PreparedItem, answers: Mapping[str, SlotAnswer], max_tokens: int, carry_on: CarryOn = lambda: True
    ) -> str:
        """See `Explains.explain`. Raises `ModelError` where xgrammar is not installed."""
        if not isinstance(row.payload, ReviewFeatures):
            raise ModelError("a row was prepared by another reviewer; prepare rows with the reviewer that scores them")
        if self.files is None and row.payload.crop is None:
            return ""
        if self._writer is None:
            self._writer = RationaleWriter(self.network)
        with torch.inference_mode():
            batch = self._batch([row.payload])
        with as_written() if self._compiled else nullcontext():
            return self._writer.write(batch, self._prefix, answers, max_tokens, carry_on)

    def _batch(self, rows: Sequence[ReviewFeatures]) -> EvidenceBatch:
        if self.files is not None:
            return collate(rows, self.files.layout).to(self.network.device)
        none = torch.zeros(0, dtype=torch.int64)
        return EvidenceBatch(
            opinion=torch.zeros(len(rows), 0),
            maps=(),
            map_rows=none,
            tokens=torch.zeros(0, 0),
            token_rows=none,
            token_index=none,
            crops=to_pixels(torch.from_numpy(np.stack([row.crop for row in rows if row.crop is not None]))),
            crop_rows=torch.arange(len(rows)),
        ).to(self.network.device)


def network_of(
    task: Task, opened: HubModel, side: int, projected: Projected | None = None, *, packs: bool = False
) -> HubNetwork:
    """The model with its prompt, for crops of `side` pixels. Raises `ModelError`."""
    family = opened.family
    prompt = build_prompt(task, family.processor, family.image_token, side, image_first=family.kind in CROSS)
    projector = None if projected is None else projected.files.projector.to(family.head.weight.device)
    return HubNetwork(family, prompt, projector, packs=packs).eval()
