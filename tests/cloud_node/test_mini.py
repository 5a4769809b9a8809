"""The service with the bundled kind of model: a tiny `reviewer-mini` with random weights, read from its folder."""

import asyncio
from dataclasses import replace

import pytest
import torch

from fusion.codec.synthetic import synthetic_profile
from fusion.review import load_reviewer
from fusion.review.checkpoint import build_network, save_reviewer
from fusion.review.model import ReviewerSize
from fusion.review.synthetic import synthetic_evidence, synthetic_layout
from fusion.types import GatedMaps, ItemState, Verdict
from fusion.wire.messages import Hello, PixelAnswer, PixelRequest, Submission, Welcome

TINY = ReviewerSize(
    hidden=48, layers=2, heads=4, mlp=64, vision_hidden=32, vision_layers=1, vision_heads=2, vision_mlp=48, projector=32
)


@pytest.fixture(scope="module")
def profile():
    return synthetic_profile(task="yard")


@pytest.fixture(scope="module")
def reviewer(yard, profile, tmp_path_factory):
    torch.set_num_threads(1)
    network, tokenizer = build_network(yard, synthetic_layout(yard, profile), TINY)
    folder = tmp_path_factory.mktemp("mini")
    save_reviewer(folder, yard, network, tokenizer, [profile])
    return load_reviewer(f"mini:{folder}")


def spoiled(maps: GatedMaps) -> GatedMaps:
    *before, last = maps.layers
    return replace(maps, layers=(*before, replace(last, symbols=last.symbols[:-4] + b"\x01\x02\x03\x04")))


def test_a_model_reviews_asks_for_pixels_and_refuses_damaged_maps(serving, yard, profile, reviewer):
    evidence = {one.item: one for one, _ in (synthetic_evidence(yard, profile, seed) for seed in range(12))}
    bad = next(iter(evidence))
    evidence[bad] = replace(evidence[bad], maps=spoiled(evidence[bad].maps))
    crop = synthetic_evidence(yard, profile, 1, pixels=True)[0].pixels

    async def run():
        overrides = ("review.pixel_timeout_ms=60000", "review.confidence_floor=0.99")
        async with serving(*overrides, reviewer=reviewer) as (_, client):
            stream = client.exchange()
            await stream.send(Hello(bad.sample.device, bad.sample.epoch, "yard", (profile.sha256,)))
            welcome = await stream.receive()
            assert isinstance(welcome, Welcome)
            assert welcome.serves(profile.sha256)
            for one in evidence.values():
                await stream.send(Submission.of(one))
            answers = {}
            while len(answers) < len(evidence):
                answer = await stream.receive()
                if isinstance(answer, PixelRequest):
                    await stream.send(PixelAnswer(answer.item, crop))
                else:
                    answers[answer.item] = answer
            stream.cancel()
            return answers

    answers = asyncio.run(run())
    refusal = answers.pop(bad)
    assert refusal.state is ItemState.QUARANTINED
    assert str(bad) in str(refusal.error)
    for verdict in answers.values():
        assert isinstance(verdict, Verdict)
        assert verdict.lanes == ("maps", "tokens", "pixels")
        assert verdict.reviewer == reviewer.name
        assert list(verdict.slots) == sorted(slot.name for slot in yard.slots)
