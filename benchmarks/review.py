"""Reviews a second: one forward for every slot of a batch, against `generate` writing the verdict as JSON.

Both rivals use the same weights and the same evidence in the same run, decoded beforehand. The rival is Hugging
Face's `generate`, greedy, kept to valid JSON by a mask a step (the cheapest grammar there is, since all verdicts
have the same form): once a request as most servers do it, and once in batches with the cached prompt as well.
Weights are random where no bundled reviewer is found; speed does not depend on them.

    python benchmarks/review.py [--task yard] [--seconds 3] [--threads 1 2]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList

from fusion.codec import Profile
from fusion.codec.synthetic import synthetic_profile
from fusion.errors import ModelError
from fusion.review.base import PreparedItem
from fusion.review.batch import collate
from fusion.review.checkpoint import build_network, save_reviewer
from fusion.review.mini import MiniReviewer
from fusion.review.model import ReviewerSize
from fusion.review.synthetic import synthetic_evidence, synthetic_layout
from fusion.task import Task


class VerdictForm(LogitsProcessor):
    """Allows, step by step, only the tokens a verdict's JSON can have there."""

    def __init__(self, reviewer: MiniReviewer) -> None:
        tokenizer, task = reviewer.files.tokenizer, reviewer.task
        steps: list[list[str]] = []
        for index, slot in enumerate(task.slots):
            steps += [['{"' if index == 0 else '","'], [slot.name], ['":"'], list(slot.options)]
        steps.append(['"}'])
        self.masks = torch.full((len(steps), len(tokenizer)), -torch.inf)
        for step, words in enumerate(steps):
            self.masks[step, tokenizer.convert_tokens_to_ids(words)] = 0.0
        self.step = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`scores` (B, vocabulary) with what this step's form does not allow at minus infinity."""
        del input_ids
        self.step += 1
        return scores + self.masks[self.step - 1]


def generated(reviewer: MiniReviewer, batch: Sequence[PreparedItem], prefix: Any) -> list[dict[str, str]]:
    """Verdicts written token by token; with `prefix`, over the cached prompt. All rows have equal lengths."""
    network, tokenizer = reviewer.files.network, reviewer.files.tokenizer
    visual, _ = network.visual(collate([row.payload for row in batch], network.layout))
    form, rows = VerdictForm(reviewer), len(batch)
    known = network.prefix.shape[1]
    cache = DynamicCache(config=network.vlm.config.text_config)
    prompt = network.vlm.get_input_embeddings()(network.prefix).expand(rows, -1, -1)
    for layer, (keys, values) in enumerate(prefix or []):
        cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), layer)
    ids = network.vlm.generate(
        inputs_embeds=torch.cat([prompt, visual], 1),
        attention_mask=torch.ones(rows, known + visual.shape[1], dtype=torch.long),
        past_key_values=cache if prefix else None,
        logits_processor=LogitsProcessorList([form]),
        max_new_tokens=len(form.masks),
        min_new_tokens=len(form.masks),
        do_sample=False,
        pad_token_id=0,
    )
    return [json.loads(tokenizer.decode(row).replace(" ", "")) for row in ids]


def rate(action: Callable[[], object], reviews: int, seconds: float) -> float:
    """Reviews a second of `action`, which does `reviews` of them, after one warm call; the best of three stretches."""
    action()
    rates = []
    for _ in range(3):
        calls, started = 0, time.perf_counter()
        while not calls or time.perf_counter() - started < seconds / 3:
            action()
            calls += 1
        rates.append(calls * reviews / (time.perf_counter() - started))
    return max(rates)


def load(task: Task, folder: Path) -> tuple[MiniReviewer, Profile]:
    """The bundled reviewer, or one of the bundled shape with random weights."""
    try:
        reviewer = MiniReviewer.load(task.name)
    except ModelError:
        camera = next(iter(task.sensors.values()))
        profile = synthetic_profile(task=task.name, image_width=camera.width, image_height=camera.height)
        torch.manual_seed(0)
        network, tokenizer = build_network(task, synthetic_layout(task, profile), ReviewerSize())
        save_reviewer(folder, task, network, tokenizer, [profile])
        reviewer = MiniReviewer.load(str(folder))
    return reviewer, next(iter(reviewer.files.profiles.values()))


@torch.inference_mode()
def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="yard")
    parser.add_argument("--seconds", type=float, default=3.0, help="a measurement")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    task = Task.load(arguments.task)
    with TemporaryDirectory() as folder:
        reviewer, profile = load(task, Path(folder))
    files = reviewer.files
    size = sum(p.numel() for p in files.network.parameters())
    print(f"{reviewer.name}: {size:,} parameters, prompt {files.network.prefix.shape[1]} tokens")
    evidence = {
        pixels: [synthetic_evidence(task, profile, s, pixels=pixels)[0] for s in range(32)] for pixels in (False, True)
    }
    started = time.perf_counter()
    rows = {pixels: [reviewer.prepare(e) for e in items] for pixels, items in evidence.items()}
    print(f"prepare (decode, check, resample): {(time.perf_counter() - started) / 64 * 1e3:.2f} ms an item")
    prefix = files.network.prefix_cache()
    assert generated(reviewer, rows[True][:4], prefix) == generated(reviewer, rows[True][:4], None), (
        "the cache changes answers"
    )
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for pixels in (False, True):
            some = rows[pixels]
            plain = rate(lambda some=some: generated(reviewer, some[:1], None), 1, arguments.seconds)
            head = f"{threads} thread(s), {some[0].tokens} uncached tokens{', pixels' if pixels else ''}"
            print(f"{head}: generate, one request at a time: {plain:.1f}/s")
            for count in (1, 8, 32):
                ours = rate(lambda some=some, n=count: reviewer.score(some[:n]), count, arguments.seconds)
                theirs = rate(
                    lambda some=some, n=count: generated(reviewer, some[:n], prefix), count, arguments.seconds
                )
                print(
                    f"{head}: batch {count:2}: one forward {ours:6.1f}/s ({ours / plain:4.1f} x); "
                    f"generate with batch and cached prompt {theirs:6.1f}/s"
                )


if __name__ == "__main__":
    main()
