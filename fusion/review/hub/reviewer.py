"""`hf:`: a pretrained vision-language model answers from pixels, in one forward for a whole batch of verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch

from fusion.errors import EvidenceError, ModelError
from fusion.review.base import ANY_PROFILE, PreparedItem, slot_answers
from fusion.review.batch import EvidenceBatch, to_pixels
from fusion.review.crop import decode_crop
from fusion.review.hub.families import CROSS
from fusion.review.hub.model import HubModel, open_model
from fusion.review.hub.name import HubName
from fusion.review.hub.network import HubNetwork
from fusion.review.hub.prompt import build_prompt
from fusion.review.together import choose
from fusion.task import Task
from fusion.types import Evidence, SlotAnswer, UInt8Array


class HubReviewer:
    """Reads an item's crop with a model that was not trained for the task.

    Of an item without a crop it knows nothing: every option is as probable as another, so that the service, finding
    the answer unsure, asks the device for one. The maps are not read, so every trunk is served.
    """

    profiles = frozenset({ANY_PROFILE})

    def __init__(self, called: HubName, task: Task, opened: HubModel) -> None:
        self.task = task
        self.name = f"hf:{opened.label}@{opened.fingerprint[:12]}"
        self._side = called.side
        family = opened.family
        try:
            prompt = build_prompt(
                task, family.processor, family.image_token, called.side, image_first=family.kind in CROSS
            )
        except ModelError as error:
            raise ModelError(f"{called.where}: {error}") from None
        self._network = HubNetwork(family, prompt, None).eval()
        self._tokens = prompt.picture_tokens + len(prompt.after) + len(prompt.tree.ids)
        with torch.inference_mode():
            self._prefix = self._network.prefix_cache()

    @classmethod
    def load(cls, argument: str) -> Self:
        """The reviewer `NAME-OR-PATH?task=TASK`. Raises `ConfigError` or `ModelError`."""
        called = HubName.parse(argument)
        task = Task.load(called.task)
        return cls(called, task, open_model(called))

    def cost(self, evidence: Evidence) -> int:
        """The picture's tokens, the text behind it and the tree of answers; 1 without a picture."""
        return 1 if evidence.pixels is None else self._tokens

    def prepare(self, evidence: Evidence) -> PreparedItem:
        """Decode and check one row. Raises `EvidenceError`."""
        if evidence.task != self.task.name:
            raise EvidenceError(f"{evidence.item}: task {evidence.task!r} sent to a reviewer of {self.task.name!r}")
        crop = None if evidence.pixels is None else decode_crop(evidence.pixels, self._side, str(evidence.item))
        return PreparedItem(evidence.item, self.cost(evidence), crop)

    @torch.inference_mode()
    def score(self, batch: Sequence[PreparedItem]) -> list[dict[str, SlotAnswer]]:
        """Answer every slot of every row, those with pictures in one forward."""
        tables = [np.full((len(batch), len(slot.options)), 1 / len(slot.options)) for slot in self.task.slots]
        shown = [row for row, item in enumerate(batch) if item.payload is not None]
        if shown:
            crops = [crop for row in shown if isinstance(crop := batch[row].payload, np.ndarray)]
            for table, scores in zip(tables, self._network(self._batch(crops), self._prefix), strict=True):
                table[shown] = torch.softmax(scores.double(), 1).cpu().numpy()
        return slot_answers(self.task, tables, choose(tables, None))

    def _batch(self, crops: Sequence[UInt8Array]) -> EvidenceBatch:
        rows, none = torch.arange(len(crops)), torch.zeros(0, dtype=torch.int64)
        return EvidenceBatch(
            opinion=torch.zeros(len(crops), 0),
            maps=(),
            map_rows=none,
            tokens=torch.zeros(0, 0),
            token_rows=none,
            token_index=none,
            crops=to_pixels(torch.from_numpy(np.stack(crops))),
            crop_rows=rows,
        ).to(self._network.device)
