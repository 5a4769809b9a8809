"""`reviewer-mini`: the bundled small vision-language model, one forward for a whole batch of verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from fusion.errors import ModelError
from fusion.review.base import PreparedItem, slot_answers
from fusion.review.batch import collate
from fusion.review.checkpoint import ReviewerFiles, load_reviewer_files
from fusion.review.features import ReviewFeatures
from fusion.review.folder import DESCRIPTION
from fusion.review.preparing import FeaturePreparer
from fusion.review.price import MiniPrice
from fusion.review.synthetic import example_evidence
from fusion.review.together import Combinations, choose
from fusion.task import Task
from fusion.types import Evidence, SlotAnswer


class MiniReviewer:
    """Reads maps, fused tokens, opinions and, when it has them, pixels; answers every slot of the task.

    Pixels are a second opinion, not a replacement: a row that has them is read with and without, and its answer is
    the geometric mean of both. The prompt's keys and values are computed once. A row's answer does not depend on its
    batch mates beyond float rounding (tests hold it to 1e-5 in probability).
    """

    def __init__(self, files: ReviewerFiles, *, device: str = "cpu") -> None:
        self._files = files
        self._device = device
        with torch.inference_mode():
            self._prefix = files.network.prefix_cache()

    @classmethod
    def load(cls, argument: str, *, device: str = "cpu") -> Self:
        """The reviewer of a bundled task (`yard`) or of a folder. Raises `ModelError` in one line.

        A folder of the same name as a task is meant where a reviewer is in it.
        """
        folder = Path(argument)
        bundled = Path(str(resources.files("fusion").joinpath("weights", argument, "reviewer")))
        if not folder.is_dir() or (bundled.is_dir() and not (folder / DESCRIPTION).is_file()):
            folder = bundled
        if not folder.is_dir():
            raise ModelError(f"reviewer mini:{argument}: neither a folder nor a task with a bundled reviewer")
        return cls(load_reviewer_files(folder, device=device), device=device)

    @property
    def name(self) -> str:
        """`mini:TASK@FINGERPRINT`."""
        return f"mini:{self.task.name}@{self._files.fingerprint[:12]}"

    @property
    def task(self) -> Task:
        """The task it was trained for."""
        return self._files.task

    @property
    def profiles(self) -> frozenset[str]:
        """Trunks whose maps it reads."""
        return frozenset(self._files.profiles)

    @property
    def on_gpu(self) -> bool:
        """See `scores_here`."""
        return self._device != "cpu"

    @property
    def files(self) -> ReviewerFiles:
        """The loaded parts."""
        return self._files

    def example(self, seed: int) -> Evidence:
        """A made-up item of a trunk that it reads."""
        profile = next(iter(self._files.profiles.values()))
        return example_evidence(self.task, profile, self._files.network.layout, seed)

    @property
    def price(self) -> MiniPrice:
        """What reviews cost, without the model."""
        layout = self._files.network.layout
        return MiniPrice(layout.map_tokens, len(self.task.slots), self._files.network.crop_tokens)

    def cost(self, evidence: Evidence) -> int:
        """Visual tokens of the lanes that are there, the opinion, and a marker a slot; twice when there are pixels."""
        return self.price(evidence)

    @cached_property
    def preparer(self) -> FeaturePreparer:
        """What makes rows, without the model."""
        files = self._files
        return FeaturePreparer(self.name, self.task.name, self.price, files.profiles, files.network.layout)

    def prepare(self, evidence: Evidence) -> PreparedItem:
        """Decode and check one row. Raises `EvidenceError`, or `UnknownProfileError` for another trunk."""
        return self.preparer(evidence)

    def score(self, batch: Sequence[PreparedItem]) -> list[dict[str, SlotAnswer]]:
        """Answer every slot of every row in one forward, and rows with pixels in a second; see `probabilities`."""
        rows = [row.payload for row in batch if isinstance(row.payload, ReviewFeatures)]
        if len(rows) != len(batch):
            raise ModelError("a row was prepared by another reviewer; prepare rows with the reviewer that scores them")
        if not rows:
            return []
        tables = [p.numpy() for p in self.probabilities(rows)]
        return slot_answers(self.task, tables, self.choose(tables))

    def choose(self, tables: Sequence[NDArray[np.floating]]) -> Combinations:
        """Option indices (B, slots) of the most probable answers that go together."""
        return choose(tables, self._files.together)

    @torch.inference_mode()
    def probabilities(self, rows: Sequence[ReviewFeatures], *, crops_alone: bool = False) -> list[torch.Tensor]:
        """Calibrated probabilities (B, options) float64 a slot, softmax(logits / temperature); of a row with pixels,
        the logits are the mean of those with and without, unless it was trained on `crops_alone`.
        """
        logits = self._logits(rows)
        seen = [] if crops_alone else [index for index, row in enumerate(rows) if row.crop is not None]
        if seen:
            for scores, plain in zip(logits, self._logits([replace(rows[i], crop=None) for i in seen]), strict=True):
                scores[seen] = (scores[seen] + plain) / 2
        return [
            torch.softmax(scores.double() / temperature, 1).cpu()
            for scores, temperature in zip(logits, self._files.temperatures, strict=True)
        ]

    def _logits(self, rows: Sequence[ReviewFeatures]) -> list[torch.Tensor]:
        batch = collate(rows, self._files.network.layout).to(self._device)
        return list(self._files.network(batch, self._prefix))
