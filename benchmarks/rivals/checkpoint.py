"""What all servers serve: one random checkpoint of a real family on disk, and evidence for it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fusion.codec import quantize_tokens
from fusion.codec.synthetic import synthetic_profile
from fusion.review.questions import question
from fusion.review.synthetic import TOKEN_WIDTH, synthetic_evidence
from fusion.task import Task
from fusion.types import Box2D, Evidence, PixelCrop
from fusion.wire.convert import serialize_evidence

FAMILY = "qwen2_5_vl"
FUSED = 15
"""Fused tokens: with 16 of the maps and one of the opinion they are 32 visual tokens."""
SIDE = 168
"""Pixels a side of a crop: 36 visual tokens, the square nearest to 32."""
EXAMPLES = 32


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`model` is the family's folder, `reviewer` its name with our projector, `by_crop` its name without.

    `visual` and `text` are the tokens a row of `reviewer` has, `shared` those of the prompt all rows share.
    """

    model: Path
    reviewer: str
    by_crop: str
    parameters: int
    visual: int
    text: int
    shared: int


def build(folder: Path, hidden: int, layers: int) -> Checkpoint:
    """Write model and projector with random weights; speed does not depend on them."""
    import torch
    from transformers import AutoProcessor

    from fusion.review.hub.model import open_model
    from fusion.review.hub.name import HubName
    from fusion.review.hub.projected import new_projector, save_projected
    from fusion.review.hub.reviewer import HubReviewer
    from fusion.review.hub.tiny import Shape, save_tiny
    from fusion.review.layout import layout_for

    logging.getLogger("transformers").setLevel(logging.ERROR)
    task, profile = Task.load("yard"), synthetic_profile(task="yard")
    answers = [f'{{"{slot.name}": "{option}"' for slot in task.slots for option in slot.options]
    shape = Shape(hidden=hidden, layers=layers, vocabulary=2000, words="\n".join([question(task), *answers]))
    model = save_tiny(FAMILY, folder / "model", shape=shape)
    processor = AutoProcessor.from_pretrained(model)
    processor.image_processor.size = {"shortest_edge": 28 * 28, "longest_edge": SIDE * SIDE}
    processor.save_pretrained(model)
    opened = open_model(HubName.parse(f"{model}?task=yard"))
    torch.manual_seed(1)
    layout = layout_for(task, profile, token_width=TOKEN_WIDTH, max_tokens=FUSED)
    save_projected(folder / "projector", task, new_projector(opened.family, layout, 128), [profile], opened)
    name = f"{model}?projector={folder / 'projector'}"
    reviewer = HubReviewer.load(name)
    cost, text = reviewer.cost(feature_evidence(0)), reviewer.network.row_tokens
    parameters = sum(p.numel() for p in reviewer.network.vlm.parameters())
    shared = len(reviewer.network.prompt.before)
    crops = f"hf:{model}?task=yard&side={SIDE}"
    return Checkpoint(model, f"hf:{name}", crops, parameters, cost - text, text, shared)


def feature_evidence(seed: int) -> Evidence:
    """Maps, fused tokens and opinion of one made-up yard item: about 5 KB."""
    rng = np.random.default_rng(seed)
    made, _ = synthetic_evidence(Task.load("yard"), synthetic_profile(task="yard"), seed)
    return replace(made, tokens=quantize_tokens(rng.normal(size=(FUSED, TOKEN_WIDTH)).astype(np.float32)))


def crop_evidence(seed: int) -> Evidence:
    """The same with a crop and nothing else to look at."""
    made = feature_evidence(seed)
    return replace(made, maps=None, tokens=None, pixels=PixelCrop(jpeg(seed), "jpeg", Box2D(0, 0, SIDE, SIDE)))


def jpeg(seed: int) -> bytes:
    """A picture of soft colours, as JPEG of quality 80."""
    noise = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), np.uint8)
    picture = cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def examples_of(reviewer: str) -> list[Evidence]:
    """Evidence that a reviewer of another name reads; for those that make their own (`mini:yard`)."""
    from fusion.review import load_reviewer

    loaded: Any = load_reviewer(reviewer)
    return [loaded.example(seed) for seed in range(EXAMPLES)]


def write_blobs(path: Path, evidence: Iterable[Evidence]) -> str:
    """Serialised, a line each; returns the path."""
    path.write_text("\n".join(serialize_evidence(one).hex() for one in evidence), encoding="ascii")
    return str(path)
