"""Reviews a second of a pretrained family's shape: our one forward against `generate` writing the verdict as JSON.

    python benchmarks/hub_review.py [--family qwen2_5_vl] [--layers 12] [--hidden 576] [--batch 16] [--device cpu]

The model is of the family's own classes with random weights, for speed does not depend on them; its tokenizer writes
every word of the task as one token or two, as a real one does. All ways have the same weights, crops and prompt, and
see pictures through the same vision tower. The rival is `generate`, greedy, of as many tokens as the JSON of a verdict
has: a request at a time, as users run it, and in batches. Ways take turns; told are medians over rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from fusion.codec.synthetic import synthetic_profile
from fusion.review.features import ReviewFeatures
from fusion.review.hub.reviewer import HubReviewer
from fusion.review.hub.tiny import TINY_FAMILIES, Shape, save_tiny
from fusion.review.questions import question
from fusion.review.synthetic import synthetic_evidence
from fusion.task import Task
from fusion.types import Box2D, Evidence, PixelCrop

SIDE = 112


def evidence(task: Task, count: int) -> list[Evidence]:
    """Items with crops of noise."""
    rng, profile, made = np.random.default_rng(0), synthetic_profile(task=task.name), []
    for seed in range(count):
        picture = rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)
        crop = PixelCrop(cv2.imencode(".png", picture)[1].tobytes(), "png", Box2D(0, 0, SIDE, SIDE))
        made.append(replace(synthetic_evidence(task, profile, seed)[0], pixels=crop))
    return made


def rival(reviewer: HubReviewer, model: Any, processor: Any, crops: list[np.ndarray]) -> tuple[Callable[[], None], int]:
    """Writes the verdicts of `crops` in one batch; and how many tokens each has."""
    task = reviewer.task
    content = [{"type": "text", "text": question(task)}, {"type": "image"}]
    chat = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    images = [torch.from_numpy(crop).permute(2, 0, 1) for crop in crops]
    inputs = processor(
        text=[chat] * len(crops), images=[[i] for i in images], add_special_tokens=False, return_tensors="pt"
    ).to(reviewer.network.device)
    verdict = json.dumps({slot.name: slot.options[0] for slot in task.slots})
    length = len(processor.tokenizer.encode(verdict, add_special_tokens=False))

    def write() -> None:
        with torch.inference_mode():
            model.generate(**inputs, max_new_tokens=length, min_new_tokens=length, do_sample=False)

    return write, length


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="qwen2_5_vl", choices=TINY_FAMILIES)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    task = Task.load("yard")
    words = " ".join([question(task), *(option for slot in task.slots for option in slot.options)])
    shape = Shape(hidden=options.hidden, layers=options.layers, vocabulary=2000, words=words)
    from transformers import AutoModelForImageTextToText, AutoProcessor

    with tempfile.TemporaryDirectory() as scratch:
        folder = save_tiny(options.family, Path(scratch) / "model", shape=shape)
        asked = f"{folder}?task=yard&side={SIDE}&device={options.device}&dtype={options.dtype}"
        reviewer = HubReviewer.load(asked)
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=getattr(torch, options.dtype)).eval()
        model, processor = model.to(options.device), AutoProcessor.from_pretrained(folder)
    prepared = [reviewer.prepare(one) for one in evidence(task, options.batch)]
    crops = [
        row.payload.crop for row in prepared if isinstance(row.payload, ReviewFeatures) and row.payload.crop is not None
    ]
    alone, length = rival(reviewer, model, processor, crops[:1])
    together, _ = rival(reviewer, model, processor, crops)
    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "generate, a request at a time": (alone, 1),
        f"generate, {options.batch} at a time": (together, options.batch),
        "one forward, a request at a time": (lambda: reviewer.score(prepared[:1]), 1),
        f"one forward, {options.batch} at a time": (lambda: reviewer.score(prepared), options.batch),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in tqdm(range(options.rounds + 1), unit="round"):
        for name, (run, _) in ways.items():
            began = time.perf_counter()
            run()
            if options.device != "cpu":
                torch.cuda.synchronize()
            if number:  # the first round warms up
                took[name].append(time.perf_counter() - began)
    rates = {name: count / float(np.median(took[name])) for name, (_, count) in ways.items()}
    first = next(iter(rates.values()))
    prompt, parameters = reviewer.network.prompt, sum(p.numel() for p in model.parameters())
    print(f"{options.family}, {parameters / 1e6:.0f} M parameters, {options.device}, {options.threads} threads")
    tokens = f"visual {prompt.picture_tokens}, prompt {len(prompt.before)}, tree {len(prompt.tree.ids)}, JSON {length}"
    print(f"tokens: {tokens}")
    print("| way | reviews/s | ratio |\n|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.2f} | {rate / first:.1f} |")


if __name__ == "__main__":
    main()
