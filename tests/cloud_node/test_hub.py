"""The service with a pretrained model that knows pixels alone."""

import asyncio
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fusion.codec.synthetic import synthetic_profile
from fusion.review import load_reviewer
from fusion.review.hub.tiny import save_tiny
from fusion.review.synthetic import synthetic_evidence
from fusion.types import Box2D, PixelCrop, Verdict
from fusion.wire.messages import Hello, PixelAnswer, PixelRequest, Submission


@pytest.fixture(scope="module")
def reviewer(tmp_path_factory):
    folder = save_tiny("qwen2_5_vl", tmp_path_factory.mktemp("hub") / "tiny")
    return load_reviewer(f"hf:{folder}?task=yard&side=56")


def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (96, 96, 3), np.uint8)
    return PixelCrop(cv2.imencode(".jpg", pixels)[1].tobytes(), "jpeg", Box2D(0, 0, 96, 96))


def test_every_item_is_asked_for_its_picture_and_answered_from_it(serving, yard, reviewer):
    profile = synthetic_profile(task="yard")
    evidence = {one.item: one for one, _ in (synthetic_evidence(yard, profile, seed) for seed in range(6))}

    async def run():
        async with serving("review.pixel_timeout_ms=60000", reviewer=reviewer) as (_, client):
            stream = client.exchange()
            first = next(iter(evidence)).sample
            await stream.send(Hello(first.device, first.epoch, "yard", (profile.sha256,)))
            await stream.receive()
            for one in evidence.values():
                await stream.send(Submission.of(one))
            answers, asked = {}, set()
            while len(answers) < len(evidence):
                answer = await stream.receive()
                if isinstance(answer, PixelRequest):
                    asked.add(answer.item)
                    await stream.send(PixelAnswer(answer.item, picture(answer.item.sample.sequence)))
                else:
                    answers[answer.item] = answer
            stream.cancel()
            return answers, asked

    answers, asked = asyncio.run(run())
    assert asked == set(evidence)
    for item, verdict in answers.items():
        assert isinstance(verdict, Verdict)
        assert verdict.reviewer == reviewer.name
        assert "pixels" in verdict.lanes
        shown = replace(evidence[item], pixels=picture(item.sample.sequence))
        (alone,) = reviewer.score([reviewer.prepare(shown)])
        for name, answer in alone.items():
            assert verdict.slots[name].probabilities == pytest.approx(answer.probabilities, abs=1e-5)
