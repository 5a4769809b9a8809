"""(a) and (b): the verdict written as JSON token by token, by `generate` in this process or by `transformers serve`.

    python -m rivals.writing JOB

`JOB` is a `Job` as JSON; what came of it is printed as JSON. Pictures come as JPEG and go through the family's own
processor and vision tower, the prompt is built anew for every request, the answer is read as JSON where it is some.
Weights are random, so its length is fixed to what a verdict's JSON has.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
import time
from typing import Any

from fusion.config import Settings
from fusion.review.questions import question
from fusion.task import Task
from rivals.books import percentile
from rivals.checkpoint import EXAMPLES, jpeg


class Job(Settings):
    """Where the model is; `url` of a server, empty for `generate` here; how long, and requests at a time."""

    model: str
    url: str = ""
    seconds: float = 5.0
    together: int = 1
    threads: int = 1
    tokens: int = 32


class Wrote(Settings):
    """Rate a second, latencies in ms."""

    rate_s: float
    requests: int
    p50_ms: float | None
    p99_ms: float | None


def generating(job: Job) -> Wrote:
    """A request at a time."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    torch.set_num_threads(job.threads)
    model = AutoModelForImageTextToText.from_pretrained(job.model, dtype=torch.float32, trust_remote_code=False).eval()
    processor = AutoProcessor.from_pretrained(job.model, trust_remote_code=False)
    content = [{"type": "text", "text": question(Task.load("yard"))}, {"type": "image"}]
    pictures = [jpeg(seed) for seed in range(EXAMPLES)]

    def answer(number: int) -> None:
        chat = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        image = Image.open(io.BytesIO(pictures[number % EXAMPLES])).convert("RGB")
        inputs = processor(text=[chat], images=[[image]], add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            told = model.generate(**inputs, max_new_tokens=job.tokens, min_new_tokens=job.tokens, do_sample=False)
        read_json(processor.tokenizer.decode(told[0, inputs["input_ids"].shape[1] :]))

    answer(0)
    took_s, began_s = [], time.perf_counter()
    while time.perf_counter() - began_s < job.seconds:
        start_s = time.perf_counter()
        answer(len(took_s))
        took_s.append(time.perf_counter() - start_s)
    return wrote(took_s, time.perf_counter() - began_s)


async def chatting(job: Job) -> Wrote:
    """`together` requests at a time, each over HTTP as an OpenAI client sends it."""
    import aiohttp

    took_s: list[float] = []
    bodies = [chat_body(job, jpeg(seed)) for seed in range(EXAMPLES)]
    async with aiohttp.ClientSession() as session:

        async def answer(number: int) -> None:
            async with session.post(f"{job.url}/v1/chat/completions", json=bodies[number % EXAMPLES]) as response:
                response.raise_for_status()
                read_json((await response.json())["choices"][0]["message"]["content"])

        async def keep_asking(worker: int) -> None:
            while time.perf_counter() - began_s < job.seconds:
                start_s = time.perf_counter()
                await answer(worker + len(took_s))
                took_s.append(time.perf_counter() - start_s)

        await answer(0)
        began_s = time.perf_counter()
        await asyncio.gather(*map(keep_asking, range(job.together)))
        return wrote(took_s, time.perf_counter() - began_s)


def chat_body(job: Job, picture: bytes) -> dict[str, Any]:
    """A request of the chat API."""
    url = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
    text = {"type": "text", "text": question(Task.load("yard"))}
    content = [text, {"type": "image_url", "image_url": {"url": url}}]
    fixed = json.dumps({"min_new_tokens": job.tokens, "do_sample": False})
    return {
        "model": job.model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": job.tokens,
        "generation_config": fixed,
    }


def wrote(took_s: list[float], seconds: float) -> Wrote:
    """Totals."""
    ms = [one * 1e3 for one in took_s]
    return Wrote(rate_s=len(ms) / seconds, requests=len(ms), p50_ms=percentile(ms, 50), p99_ms=percentile(ms, 99))


def read_json(text: str) -> Any:
    """The answer; None when it is no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def main() -> None:
    """One job."""
    job = Job.model_validate_json(sys.argv[1])
    done = asyncio.run(chatting(job)) if job.url else generating(job)
    print(done.model_dump_json())


if __name__ == "__main__":
    main()
