"""The service with a model behind a real OpenAI-compatible server: `transformers serve`, in a process of its own."""

import asyncio
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from fusion.codec.synthetic import synthetic_profile
from fusion.review.hub.tiny import save_tiny
from fusion.review.questions import question
from fusion.review.remote.reviewer import OpenAiReviewer
from fusion.review.synthetic import synthetic_evidence
from fusion.types import Box2D, PixelCrop, Verdict
from fusion.wire.messages import Hello, PixelAnswer, PixelRequest, Submission

from ..ports import free_port

NEEDED = ("accelerate", "fastapi", "openai", "uvicorn")
START_S = 120
STEPS = 600
RED, BLUE = (230, 30, 30), (30, 30, 230)


@pytest.fixture(scope="module")
def served(tmp_path_factory, yard):
    """A tiny Qwen2.5-VL behind HTTP, taught to tell red from blue: its address, its name, and its log."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        pytest.skip(f"transformers serve needs {', '.join(missing)}: pip install 'transformers[serving]'")
    room = tmp_path_factory.mktemp("openai")
    model = save_tiny("qwen2_5_vl", room / "tiny")
    teach(model, yard)
    port = free_port()
    program = Path(sys.executable).with_name("transformers")
    options = ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    log = room / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen([program, "serve", model, *options], stdout=out, stderr=out, env=environment)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1", model, log
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(url, process, log):
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(url, timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    pytest.fail(f"transformers serve does not come up: {log.read_text(errors='replace')[-2000:]}")


def answer(task, colour):
    """The first option of every slot to red, the last to blue."""
    return {slot.name: slot.options[0 if colour == RED else -1] for slot in task.slots}


def teach(folder, task):
    """Train the model until it writes the answers to the two colours by heart: seconds, so small is it."""
    model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    content = [{"type": "text", "text": question(task)}, {"type": "image"}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    rows = [lesson(processor, text, task, colour) for colour in (RED, BLUE)]
    for _ in range(STEPS):
        losses = [model(**row).loss for row in rows]
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
        if max(losses) < 0.01:
            model.save_pretrained(folder)
            return
    pytest.fail(f"the tiny model does not learn: {losses}")


def lesson(processor, text, task, colour):
    row = processor(text=text, images=[Image.new("RGB", (96, 96), colour)], return_tensors="pt")
    told = processor.tokenizer.encode(json.dumps(answer(task, colour)), add_special_tokens=False)
    told = torch.tensor([[*told, processor.tokenizer.eos_token_id]])
    kinds = torch.cat([row.pop("mm_token_type_ids"), torch.zeros_like(told)], 1)
    before, row["input_ids"] = row["input_ids"].shape[1], torch.cat([row["input_ids"], told], 1)
    labels = row["input_ids"].clone()
    labels[:, :before] = -100
    mask = torch.ones_like(labels)
    return {**row, "mm_token_type_ids": kinds, "labels": labels, "attention_mask": mask}


def picture(colour):
    pixels = np.full((96, 96, 3), colour[::-1], np.uint8)
    return PixelCrop(cv2.imencode(".jpg", pixels)[1].tobytes(), "jpeg", Box2D(0, 0, 96, 96))


def colour_of(item):
    return BLUE if item.sample.sequence % 2 else RED


async def review(client, evidence, profile):
    """Submit all, hand out pictures that are asked for, and gather the answers."""
    stream = client.exchange()
    first = next(iter(evidence)).sample
    await stream.send(Hello(first.device, first.epoch, "yard", (profile.sha256,)))
    await stream.receive()
    for one in evidence.values():
        await stream.send(Submission.of(one))
    answers = {}
    while len(answers) < len(evidence):
        got = await stream.receive()
        if isinstance(got, PixelRequest):
            await stream.send(PixelAnswer(got.item, picture(colour_of(got.item))))
        else:
            answers[got.item] = got
    stream.cancel()
    return answers


def test_every_item_gets_the_models_verdict_on_its_picture(serving, yard, served):
    url, model, log = served
    reviewer = OpenAiReviewer.load(f"{url}#{model}?task=yard&concurrent=4&timeout_s=60")
    profile = synthetic_profile(task="yard")
    evidence = {one.item: one for one, _ in (synthetic_evidence(yard, profile, seed) for seed in range(4))}

    async def run():
        async with serving("review.pixel_timeout_ms=60000", reviewer=reviewer) as (_, client):
            return await review(client, evidence, profile)

    answers = asyncio.run(run())
    reviewer.close()
    assert set(answers) == set(evidence)
    for item, verdict in answers.items():
        assert isinstance(verdict, Verdict), verdict
        assert verdict.reviewer == reviewer.name
        assert "pixels" in verdict.lanes
        assert {name: slot.option for name, slot in verdict.slots.items()} == answer(yard, colour_of(item))
        assert {round(slot.confidence, 6) for slot in verdict.slots.values()} == {0.7}  # this server tells none
    assert log.read_text(errors="replace").count('POST /v1/chat/completions HTTP/1.1" 200') == len(evidence)
