"""Every family gives, through our one forward, what its own pixel path gives label by label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from fusion.codec.synthetic import synthetic_profile
from fusion.review.batch import EvidenceBatch, collate, to_pixels
from fusion.review.features import ReviewFeatures, extract_features
from fusion.review.hub.families import CROSS, Family
from fusion.review.hub.network import HubNetwork
from fusion.review.hub.projected import new_projector
from fusion.review.hub.prompt import build_prompt, special_tokens, stems
from fusion.review.hub.tiny import TINY_FAMILIES, save_tiny
from fusion.review.hub.tiny import TINY_SIDE as SIDE
from fusion.review.layout import FeatureLayout
from fusion.review.questions import question
from fusion.review.synthetic import synthetic_evidence, synthetic_layout
from fusion.task import Task

TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def task() -> Task:
    return Task.load("yard")


@pytest.fixture(scope="module", params=TINY_FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(request.param, tmp_path_factory.mktemp("hub") / request.param)


@pytest.fixture(scope="module")
def network(folder: Path, task: Task) -> HubNetwork:
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    family = Family(model, AutoProcessor.from_pretrained(folder))
    prompt = build_prompt(task, family.processor, family.image_token, SIDE, image_first=family.kind in CROSS)
    return HubNetwork(family, prompt, None)


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, SIDE, SIDE, 3), np.uint8)


def batch(crops: np.ndarray) -> EvidenceBatch:
    none = torch.zeros(0, dtype=torch.int64)
    return EvidenceBatch(torch.zeros(len(crops), 0), (), none, torch.zeros(0, 0), none, none,
                         to_pixels(torch.from_numpy(crops)), torch.arange(len(crops)))  # fmt: skip


@torch.inference_mode()
def probabilities(network: HubNetwork, crops: np.ndarray) -> list[torch.Tensor]:
    return [torch.softmax(scores, 1) for scores in network(batch(crops))]


@torch.inference_mode()
def by_itself(model: Any, processor: Any, task: Task, crop: np.ndarray, chat: str) -> list[torch.Tensor]:
    """Each option written out behind the chat and read by the model's ordinary pixel path, one forward an option."""
    image = torch.from_numpy(crop).permute(2, 0, 1)
    told = []
    for stem, slot in zip(stems(task), task.slots, strict=True):
        scores = []
        for option in slot.options:
            inputs = processor(
                text=chat + stem + option,
                images=[image],
                add_special_tokens=special_tokens(processor, chat),
                return_tensors="pt",
            )
            behind = processor.tokenizer.encode(stem + option, add_special_tokens=False)
            logits = torch.log_softmax(model(**inputs).logits[0].float(), -1)[-len(behind) - 1 : -1]
            assert inputs["input_ids"][0, -len(behind) :].tolist() == behind
            scores.append(logits[torch.arange(len(behind)), behind].sum())
        told.append(torch.softmax(torch.stack(scores), 0))
    return told


def test_injected_equals_the_pixel_path(folder: Path, network: HubNetwork, task: Task) -> None:
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    if hasattr(processor.image_processor, "do_image_splitting"):
        processor.image_processor.do_image_splitting = False
    crops = pictures(2)
    ours = probabilities(network, crops)
    for row, crop in enumerate(crops):
        theirs = by_itself(model, processor, task, crop, network.prompt.chat)
        for slot, mine, usual in zip(task.slots, ours, theirs, strict=True):
            assert torch.allclose(mine[row], usual, atol=TOLERANCE), (slot.name, mine[row], usual)
    assert not torch.allclose(ours[0][0], ours[0][1], atol=100 * TOLERANCE), "the pictures make no difference"


def test_what_rows_share_is_the_longer_part(network: HubNetwork, task: Task) -> None:
    """Questions stand before the picture, whatever the template does with pictures, but where text looks at them."""
    assert question(task) in network.prompt.chat
    shared_first = len(network.prompt.before) > 10 * len(network.prompt.after)
    assert shared_first is not (network.vlm.config.model_type in CROSS)


@pytest.fixture(scope="module", params=[False, True], ids=["padded", "packed"])
def mixed(request: pytest.FixtureRequest, folder: Path, task: Task) -> HubNetwork:
    """One that reads every lane."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    family = Family(model, AutoProcessor.from_pretrained(folder))
    prompt = build_prompt(task, family.processor, family.image_token, SIDE, image_first=family.kind in CROSS)
    layout = synthetic_layout(task, synthetic_profile(task="yard"))
    torch.manual_seed(0)
    return HubNetwork(family, prompt, new_projector(family, layout, 32), packs=request.param)


def rows_of_many_lengths(task: Task, layout: FeatureLayout, count: int = 5) -> list[ReviewFeatures]:
    profile = synthetic_profile(task="yard")
    rows = [
        extract_features(synthetic_evidence(task, profile, seed, pixels=True)[0], profile, layout)
        for seed in range(count)
    ]
    less = [{"crop": None}, {"maps": None, "crop": None, "tokens": None}, {}, {"maps": None}, {"tokens": None}]
    return [replace(row, **less[number % len(less)]) for number, row in enumerate(rows)]


def test_rows_of_different_lanes_do_not_depend_on_their_batch_mates(mixed: HubNetwork, task: Task) -> None:
    layout = mixed.projector.layout
    rows = rows_of_many_lengths(task, layout)
    with torch.inference_mode():
        together = [torch.softmax(scores, 1) for scores in mixed(collate(rows, layout))]
        for place, row in enumerate(rows):
            for whole, single in zip(together, mixed(collate([row], layout)), strict=True):
                assert torch.allclose(whole[place], torch.softmax(single, 1)[0], atol=TOLERANCE)


@torch.inference_mode()
def test_packed_rows_are_answered_as_padded_ones(folder: Path, mixed: HubNetwork, task: Task) -> None:
    """Over many blocks of attention, rows lying across their edges."""
    layout = mixed.projector.layout
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    family = Family(model, AutoProcessor.from_pretrained(folder))
    padded = HubNetwork(family, mixed.prompt, mixed.projector)
    batch = collate(rows_of_many_lengths(task, layout, 9), layout)
    told = mixed(batch)
    for one, other in zip(told, padded(batch), strict=True):
        assert torch.allclose(torch.softmax(one, 1), torch.softmax(other, 1), atol=TOLERANCE)
    assert not torch.allclose(told[0][0], told[0][5], atol=100 * TOLERANCE)


def test_a_row_does_not_depend_on_its_batch_mates(network: HubNetwork) -> None:
    crops = pictures(5)
    together = probabilities(network, crops)
    other = probabilities(network, np.concatenate([crops[:1], pictures(3, seed=1), crops[4:]]))
    alone = probabilities(network, crops[:1])
    for whole, mixed, single in zip(together, other, alone, strict=True):
        assert torch.allclose(whole[0], single[0], atol=TOLERANCE)
        assert torch.allclose(whole[[0, 4]], mixed[[0, 4]], atol=TOLERANCE)
