"""The service with a model behind a real OpenAI-compatible server: `transformers serve`, in a process of its own."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from fusion.codec.synthetic import synthetic_profile
from fusion.review.hub.tiny import save_tiny
from fusion.review.remote.reviewer import OpenAiReviewer
from fusion.review.synthetic import synthetic_evidence
from fusion.types import Box2D, PixelCrop, Verdict
from fusion.wire.messages import Hello, PixelAnswer, PixelRequest, Submission

NEEDED = ("accelerate", "fastapi", "openai", "uvicorn")
START_S = 120


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A tiny random Qwen2.5-VL behind HTTP: its address, its name, and its log."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        pytest.skip(f"transformers serve needs {', '.join(missing)}: pip install 'transformers[serving]'")
    room = tmp_path_factory.mktemp("openai")
    model = save_tiny("qwen2_5_vl", room / "tiny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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


def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (96, 96, 3), np.uint8)
    return PixelCrop(cv2.imencode(".jpg", pixels)[1].tobytes(), "jpeg", Box2D(0, 0, 96, 96))


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
        answer = await stream.receive()
        if isinstance(answer, PixelRequest):
            await stream.send(PixelAnswer(answer.item, picture(answer.item.sample.sequence)))
        else:
            answers[answer.item] = answer
    stream.cancel()
    return answers


def test_every_item_gets_a_verdict_on_its_picture(serving, yard, served):
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
    for verdict in answers.values():
        assert isinstance(verdict, Verdict), verdict
        assert verdict.reviewer == reviewer.name
        assert "pixels" in verdict.lanes
        assert verdict.uncertain  # random weights say nothing that is an answer
    assert log.read_text(errors="replace").count('POST /v1/chat/completions HTTP/1.1" 200') == len(evidence)
