"""Reviews a second of pretrained families' real shapes on a GPU, against the roofline: what the card could do at best.

    python benchmarks/review_roofline.py --out out/review_roofline.json   on a GPU, bfloat16, batches of 256
    python benchmarks/review_roofline.py --device cpu --shapes tiny --batch 8            whether it runs at all

Language models are of the published configurations' sizes with random weights, for speed does not depend on them. The
vision tower is a tiny one: evidence arrives as features and pixels are not read. Visual tokens (maps, fused tokens, an
opinion) come through our projector; the text behind them is what the yard's four questions take.

Ways: `padded` has a row a review, as on a CPU; `packed` has all in one row (flex attention), `compiled` its layers as
well, which is what is served on a GPU; `ragged` says that every second review has neither maps nor tokens. `score` is
what the service's thread does with prepared rows, from arrays on the host to probabilities there; the others are the
network alone. The rival writes the verdict's JSON with `generate`, in batches, everything already on the card.

Floor: 2 x parameters of all layers x tokens, the head where it is read, attention over own row and prompt, divided by
the card's data sheet. `of product` divides by what a large matrix product reaches in this run instead.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from large_roofline import registered
from roofline.card import Card, find_card
from roofline.passes import timed, wait
from torch import Tensor
from tqdm import tqdm

from fusion.codec import quantize_tokens
from fusion.codec.synthetic import synthetic_profile
from fusion.errors import FusionError
from fusion.review.base import PreparedItem
from fusion.review.features import ReviewFeatures
from fusion.review.folder import EvidenceFiles
from fusion.review.hub.compiled import as_written, compile_layers
from fusion.review.hub.families import Family
from fusion.review.hub.label_tree import LabelTree
from fusion.review.hub.model import HubModel
from fusion.review.hub.name import HubName
from fusion.review.hub.projected import Projected, new_projector
from fusion.review.hub.reviewer import HubReviewer
from fusion.review.hub.tiny import Shape, make_random
from fusion.review.layout import layout_for
from fusion.review.questions import question
from fusion.review.synthetic import TOKEN_WIDTH, synthetic_evidence
from fusion.task import Task
from fusion.types import Evidence

SHAPES: dict[str, tuple[str, int, int, dict[str, Any]]] = {
    "SmolVLM2-2.2B": ("idefics3", 2048, 24, {
        "intermediate_size": 8192, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 49280}),
    "Qwen2.5-VL-3B": ("qwen2_5_vl", 2048, 36, {
        "intermediate_size": 11008, "num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 151936}),
    "Qwen2.5-VL-7B": ("qwen2_5_vl", 3584, 28, {
        "intermediate_size": 18944, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064}),
    "Qwen3-VL-8B": ("qwen3_vl", 4096, 36, {
        "intermediate_size": 12288, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 151936}),
    "tiny": ("qwen2_5_vl", 64, 2, {}),
}  # fmt: skip
"""Family, width, layers and what else the published configuration of the language model says."""
LANES = {16: (3, 6), 32: (4, 15), 64: (6, 27)}
"""Visual tokens: a side of the grid of maps, and fused tokens; one more is the opinion."""


@dataclass(slots=True)
class Row:
    """One measurement. Shares are of the floor; None where it is not told."""

    shape: str
    visual: float
    text: int
    way: str
    batch: int
    ms: float
    p99_ms: float
    per_s: float
    share: float | None = None
    share_of_product: float | None = None
    note: str = ""


def make_model(name: str, card: Card, dtype: torch.dtype) -> HubModel:
    """Random weights on the card."""
    family, hidden, layers, more = SHAPES[name]
    task = Task.load("yard")
    answers = [f'{{"{slot.name}": "{option}"' for slot in task.slots for option in slot.options]
    shape = Shape(hidden, layers, 2000, "\n".join([question(task), *answers]), more)
    with defaults(card.device, dtype):
        model, processor = make_random(family, 0, shape)
    return HubModel(Family(model.eval(), processor), name, "0" * 64, "0" * 64)


def make_reviewer(opened: HubModel, visual: int, card: Card) -> HubReviewer:
    """The model with a projector of so many visual tokens."""
    task, profile = Task.load("yard"), synthetic_profile(task="yard")
    grid, fused = LANES[visual]
    layout = layout_for(task, profile, token_width=TOKEN_WIDTH, max_tokens=fused).model_copy(update={"grid": grid})
    torch.manual_seed(1)
    projector = new_projector(opened.family, layout, 256).to(card.device).eval()
    files = EvidenceFiles(task, layout, projector, {profile.sha256: profile}, (1.0,) * len(task.slots), None, {})
    called = HubName.parse(f"{opened.label}?task=yard&side=56&device={card.device}")
    return HubReviewer(called, task, opened, Projected(files, "0" * 64))


@contextmanager
def defaults(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """New tensors are made there, and of this type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def items(task: Task, fused: int, count: int, *, ragged: bool = False) -> list[Evidence]:
    """Evidence with maps and fused tokens; `ragged` takes both from every second."""
    made, profile = [], synthetic_profile(task=task.name)
    for seed in range(count):
        rng = np.random.default_rng(seed)
        one = synthetic_evidence(task, profile, seed)[0]
        tokens = quantize_tokens(rng.normal(size=(fused, TOKEN_WIDTH)).astype(np.float32))
        bare = ragged and seed % 2
        made.append(replace(one, maps=None, tokens=None) if bare else replace(one, tokens=tokens))
    return made


def operations(reviewer: HubReviewer, visual: float) -> float:
    """Floating-point operations a review takes at least: `visual` tokens and the text behind them."""
    network = reviewer.network
    text = network.text
    body = sum(p.numel() for name, p in text.named_parameters() if "layers." in name)
    own, behind = visual + network.row_tokens, len(network.prompt.before)
    config = text.config
    wide = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * wide * own * (behind + own / 2)
    whole = len(read_whole(network.prompt.tree))
    return 2 * body * own + attention + 2 * whole * config.hidden_size * network.vocabulary


def read_whole(tree: LabelTree) -> set[int]:
    """Tokens of the tree at which all of the vocabulary is scored."""
    return {step.at for slot in tree.labels for label in slot for step in label if not step.first}


def apart(one: list[Tensor], other: list[Tensor]) -> tuple[float, float]:
    """How far probabilities are apart, on average and at most."""
    steps = torch.cat([(a.softmax(1) - b.softmax(1)).abs().flatten() for a, b in zip(one, other, strict=True)])
    return float(steps.mean()), float(steps.max())


def rival(reviewer: HubReviewer, rows: int, visual: int) -> Callable[[], None]:
    """`generate` of so many verdicts' JSON from embeddings that are ready, greedy, in one batch."""
    network, task = reviewer.network, reviewer.task
    verdict = json.dumps({slot.name: slot.options[0] for slot in task.slots})
    length = len(network.tokenizer.encode(verdict, add_special_tokens=False))
    words = network.embedded([*network.prompt.before, *[0] * visual, *network.prompt.after])[None]
    inputs = words.expand(rows, -1, -1).contiguous()
    seen = torch.ones(inputs.shape[:2], dtype=torch.int64, device=network.device)

    def write() -> None:
        network.vlm.generate(
            inputs_embeds=inputs, attention_mask=seen, max_new_tokens=length, min_new_tokens=length, do_sample=False
        )

    return write


class Bench:
    """Measures a shape at a number of visual tokens."""

    def __init__(self, card: Card, product: float, options: argparse.Namespace) -> None:
        self.card, self.product, self.options = card, product, options
        self.rows: list[Row] = []
        self.kernels: dict[str, list[tuple[str, float]]] = {}
        self.distances: dict[str, tuple[float, float]] = {}
        self.dtype = torch.bfloat16 if card.device.type == "cuda" else torch.float32

    def measure(self, shape: str, opened: HubModel, visual: int, left: Callable[[], float]) -> None:
        """All ways, the dearest to begin last."""
        reviewer = make_reviewer(opened, visual, self.card)
        network, count = reviewer.network, self.options.batch
        prepared = [reviewer.prepare(one) for one in items(reviewer.task, LANES[visual][1], count)]
        lean = [reviewer.prepare(one) for one in items(reviewer.task, LANES[visual][1], count, ragged=True)]
        batch, ragged = (reviewer._batch(_payloads(rows)) for rows in (prepared, lean))
        prefix, less = reviewer._prefix, visual - sum(visual - 1 for row in range(count) if row % 2) / count

        def ways(note: str) -> None:
            self.add(shape, f"packed{note}", reviewer, visual, lambda: network(batch, prefix))
            self.add(shape, f"packed, ragged{note}", reviewer, less, lambda: network(ragged, prefix))
            self.add(shape, f"score{note}", reviewer, visual, lambda: reviewer.score(prepared))

        for layer in network.text.layers:
            layer._compiled_call_impl = None  # what was compiled for other numbers of visual tokens
        with torch.inference_mode():
            network._packs = False
            self.add(shape, "padded", reviewer, visual, lambda: network(batch, prefix))
            self.add(shape, "padded, ragged", reviewer, less, lambda: network(ragged, prefix))
            told = {"padded": network(batch, prefix)}
            network._packs = True
            ways("")
            told["packed"] = network(batch, prefix)
            if left() > 30 and self.options.compile:
                compile_layers(network.text)
                ways(", compiled")
                told["packed, compiled"] = network(batch, prefix)
            if self.options.profile and self.card.device.type == "cuda":
                self.kernels[f"{shape}, V={visual}"] = kinds = kernels(lambda: network(batch, prefix))
                print("\n".join(f"  {100 * share:5.1f} % {name}" for name, share in kinds), file=sys.stderr, flush=True)
            with as_written():
                if shape in self.options.rival and visual == 32 and left() > 30:
                    write = rival(reviewer, self.options.rival_batch, visual)
                    self.add(shape, "generate JSON", None, visual, write, self.options.rival_batch)
                if shape in self.options.exact and visual == 32 and left() > 30:
                    self.compare(shape, reviewer, prepared, told)

    def compare(
        self, shape: str, reviewer: HubReviewer, rows: list[PreparedItem], told: dict[str, list[Tensor]]
    ) -> None:
        """How far every way is from the same weights in float32, which the model keeps afterwards."""
        few, network = min(32, len(rows)), reviewer.network
        network.vlm.float()
        network._packs = False
        exact = network(reviewer._batch(_payloads(rows[:few])), network.prefix_cache())
        for way, answers in told.items():
            self.distances[f"{shape}, {way}"] = apart([slot[:few] for slot in answers], exact)
        print(f"{shape}, from float32, mean and most: {self.distances}", file=sys.stderr, flush=True)

    def add(
        self,
        shape: str,
        way: str,
        reviewer: HubReviewer | None,
        visual: float,
        run: Callable[[], object],
        count: int = 0,
    ) -> None:
        """Time `run`, which reviews a batch."""
        count = count or self.options.batch
        try:
            ms, p99, _ = timed(run, self.card, self.options.rounds, 2.0)
        except (RuntimeError, torch.OutOfMemoryError) as error:
            told = f"failed: {type(error).__name__} {str(error)[:200]}"
            self.rows.append(Row(shape, visual, 0, way, count, 0, 0, 0, note=told))
            print(self.rows[-1], file=sys.stderr, flush=True)
            return
        row = Row(shape, round(visual, 1), 0, way, count, ms, p99, 1e3 * count / ms)
        if reviewer is not None:
            needs = operations(reviewer, visual) * count
            row.text = reviewer.network.row_tokens
            row.share = needs / (self.card.teraflops * 1e12) / (ms / 1e3)
            row.share_of_product = needs / (self.product * 1e12) / (ms / 1e3) if self.product else None
        self.rows.append(row)
        print(f"  {way}: {row.per_s:.0f}/s, {ms:.1f} ms", file=sys.stderr, flush=True)


def kernels(run: Callable[[], object], most: int = 12) -> list[tuple[str, float]]:
    """Names of the kernels that take most of a pass, and their shares of all kernels' time."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        torch.cuda.synchronize()
    took = {one.key: one.self_device_time_total for one in profile.key_averages()}
    whole = sum(took.values()) or 1.0
    return [(name[:90], time / whole) for name, time in sorted(took.items(), key=lambda one: -one[1])[:most]]


def _payloads(rows: list[PreparedItem]) -> list[ReviewFeatures]:
    return [row.payload for row in rows if isinstance(row.payload, ReviewFeatures)]


def product(card: Card) -> float:
    """TFLOP/s of a large matrix product in bfloat16."""
    if card.device.type == "cpu":
        return 0.0
    a, b = (torch.randn(8192, 8192, device=card.device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8192**3 / timed(lambda: a @ b, card, 20)[0] / 1e9


def table(rows: list[Row]) -> str:
    """As Markdown."""
    lines = [
        "| shape | visual, text tokens | way | batch | ms, p99 | reviews/s | of data sheet | of product | |",
        "|---" * 9 + "|",
    ]
    for row in rows:
        shares = [f"{100 * share:.0f} %" if share else "" for share in (row.share, row.share_of_product)]
        lines.append(
            f"| {row.shape} | {row.visual:g}, {row.text or ''} | {row.way} | {row.batch} "
            f"| {row.ms:.1f}, {row.p99_ms:.1f} | {row.per_s:.0f} | {shares[0]} | {shares[1]} | {row.note} |"
        )
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=[name for name in SHAPES if name != "tiny"])
    parser.add_argument("--visual", nargs="+", type=int, choices=LANES, default=[16, 64, 32])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=20, help="at most, and no more than 2 s a row")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="layers, as is served")
    parser.add_argument("--exact", nargs="*", default=["Qwen2.5-VL-3B", "tiny"], help="shapes compared with float32")
    parser.add_argument("--profile", action=argparse.BooleanOptionalAction, default=True, help="name the kernels")
    parser.add_argument("--rival", nargs="*", default=["Qwen2.5-VL-3B", "tiny"], help="shapes that also `generate`")
    parser.add_argument("--rival-batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=400.0, help="in all; nothing is begun after")
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="of the data sheet, where the card is not known")
    parser.add_argument("--peak-tbs", type=float, default=0.0)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    """Measure, print a table, write JSON."""
    options, began = parse(), time.perf_counter()
    registered()
    card = find_card(options)
    bench = Bench(card, product(card), options)
    facts: Mapping[str, Any] = {"card": card.name, "product_tflops": bench.product, "torch": torch.__version__}
    print(f"{card.name}: a large product reaches {bench.product:.0f} TFLOP/s; torch {torch.__version__}")

    def left() -> float:
        return options.seconds - (time.perf_counter() - began)

    def save() -> None:  # after each step, so that a run which is cut off has told what it knew
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            told = {**facts, "rows": [asdict(row) for row in bench.rows]}
            told |= {"kernels": bench.kernels, "distances": bench.distances}
            options.out.write_text(json.dumps(told, indent=1), encoding="utf-8")

    for shape in tqdm(options.shapes, unit="shape", disable=None):
        if left() < 40:
            print(f"{shape}: skipped, time was up", file=sys.stderr)
            continue
        opened = make_model(shape, card, bench.dtype)
        wait(card)
        print(f"{shape}: made, {left():.0f} s left", file=sys.stderr, flush=True)
        for visual in options.visual:
            if left() < 25:
                continue
            try:
                bench.measure(shape, opened, visual, left)
            except FusionError as error:  # what other shapes do is worth having
                bench.rows.append(Row(shape, visual, 0, "", 0, 0, 0, 0, note=f"failed: {error}"))
            save()
        del opened
        gc.collect()
        if card.device.type == "cuda":
            torch.cuda.empty_cache()
    print(table(bench.rows))


if __name__ == "__main__":
    main()
