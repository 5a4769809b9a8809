"""The `large` fusion model on a GPU against the roofline: what the card could do at best, and what of it is reached.

    python benchmarks/large_roofline.py --out out/roofline.json          on a GPU, bfloat16, batch 1 and 32
    python benchmarks/large_roofline.py --device cpu --size small        whether it runs at all, in float32

Random weights, random pictures and sweeps, cameras placed as on nuScenes' car. Weights are stored in bfloat16 but for
those of normalisations, and the forward pass runs under autocast: matrix products, convolutions and attention in
bfloat16, normalisations and sampling in float32. `--weights float32` stores float32, cast anew in every pass.

The roofline (Williams et al., 2009) is time = max(operations / peak rate, bytes / bandwidth), counted twice. `floor`:
all operations, and parameters, inputs and outputs moved once: what no program beats. `floor by op`: the same for every
operator alone, summed, its inputs read and its outputs written: what no program beats that runs PyTorch's operators one
by one, as eager mode does. Operations are those of matrix products, convolutions and attention, as
`torch.utils.flop_counter` counts them. Views move nothing. `share` is floor by measured time.

`graph` rows replay a CUDA graph of a pass that knows that all sensors are there, so nothing waits for the host.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

import torch
from roofline.bench import Bench
from roofline.card import Card, find_card
from roofline.inputs import Batch, make_batch, make_model, without_camera
from roofline.passes import SECONDS_A_ROW, running, timed
from roofline.rows import Row, fill_in, table, write
from tqdm import tqdm

from fusion.model.build import FusionModel
from fusion.model.sizes import bev_spec
from fusion.preparation.fusion_spec import FusionSpec
from fusion.task import Task

ROOT = Path(__file__).resolve().parents[1]
SPARE_S = 8.0


def registered() -> None:
    """Tell Python of this checkout's entry points where it is not installed."""
    if entry_points(group="fusion.encoders"):
        return
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups.items()]
    folder = Path(tempfile.mkdtemp()) / "fusion_stack-0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: fusion-stack\nVersion: 0\n", encoding="utf-8")
    (folder / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    sys.path.append(str(folder.parent))


def ceilings(card: Card) -> dict[str, float]:
    """What the card does at best when asked: TFLOP/s of a large product, TB/s of a large copy, bytes counted twice."""
    if card.device.type == "cpu":
        return {}
    a, b = (torch.randn(8192, 8192, device=card.device, dtype=torch.bfloat16) for _ in range(2))
    product = timed(lambda: a @ b, card, 20)[0]
    source = torch.randint(0, 256, (2 << 30,), device=card.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    copy = timed(lambda: target.copy_(source), card, 20)[0]
    return {"tflops": 2 * 8192**3 / product / 1e9, "tbs": 2 * source.numel() / copy / 1e9}


def off_by(spec: FusionSpec, card: Card, batch: Batch, model: FusionModel) -> float:
    """How far the box maps are from float32's, ‖a - b‖ / ‖b‖, on the first sample; of random weights, so a check."""
    first = {name: value[:1] for name, value in batch.items()}
    exact = make_model(spec, card, torch.float32)
    exact.load_state_dict(model.state_dict())
    with torch.no_grad():
        wanted = exact(first)[0].box.float()
    with running(card.device):
        got = model(first)[0].box.float()
    return float((got - wanted).norm() / wanted.norm())


def measure(
    bench: Bench, spec: FusionSpec, arguments: argparse.Namespace, until: float, save: Callable[[], None]
) -> None:
    """All rows, compiling last in what time is left; nothing is begun after `until`. `save` is called after each step,
    so that a run which is cut off has told what it knew.
    """

    def left() -> float:
        return until - time.perf_counter()

    batches = {count: make_batch(spec, bench.card.device, count) for count in arguments.batches}
    steps: list[tuple[str, Callable[[], object]]] = []
    for size, batch in batches.items():
        missing = without_camera(batch, 2)
        some = "one camera absent" if size == 1 else "one camera absent in half"
        steps += [
            (f"eager, batch {size}", lambda batch=batch: bench.whole(batch, "all")),
            (f"{some}, batch {size}", lambda missing=missing, some=some: bench.whole(missing, some)),
            (f"graph, batch {size}", lambda batch=batch: bench.graph(batch, "graph of eager")),
        ]
        steps.append((f"parts, batch {size}", lambda batch=batch: bench.parts(batch)))
    steps.append(("largest batch", lambda: bench.largest(spec, max(batches), arguments.largest_s)))
    for size, batch in sorted(batches.items(), reverse=True):
        limit = partial(min, arguments.compile_s)
        steps.append((f"compiled, batch {size}", lambda b=batch, f=limit: compile_rows(bench, b, f(left() - SPARE_S))))
    bar = tqdm(steps, unit="step", disable=None)
    for name, step in bar:
        bar.set_description(name)
        if left() < 0:
            bench.rows.append(Row(name, 0, "", 0, 0, 0, note="skipped: time was up"))
            continue
        try:
            step()
        except RuntimeError as error:  # what was measured before is worth having
            bench.rows.append(Row(name, 0, "", 0, 0, 0, note=f"failed: {type(error).__name__} {str(error)[:120]}"))
        fill_in(bench.rows)
        save()


def compile_rows(bench: Bench, batch: Batch, limit_s: float) -> None:
    """The compiled pass and the graph of it, unless compiling is off."""
    if limit_s > 0 and bench.compiled(batch, limit_s):
        bench.graph(batch, "graph of torch.compile")
    bench.eager()
    torch.compiler.reset()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--task", default="nuscenes")
    parser.add_argument("--size", default="large")
    parser.add_argument("--batches", type=int, nargs="+", default=None, help="1 and 32; 1 on a CPU")
    parser.add_argument("--rounds", type=int, default=50, help=f"at most, and no more than {SECONDS_A_ROW:.0f} s a row")
    parser.add_argument("--weights", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="dense bfloat16; default by the device's name")
    parser.add_argument("--peak-tbs", type=float, default=0.0, help="memory bandwidth; default by the device's name")
    parser.add_argument(
        "--compile-s", type=float, default=20.0, help="seconds to compile in, a batch; 0 for not at all"
    )
    parser.add_argument("--seconds", type=float, default=45.0, help="for all; what is not begun by then is left out")
    parser.add_argument("--largest-s", type=float, default=6.0, help="seconds to look for the largest batch in")
    parser.add_argument("--out", type=Path, help="a .json for all figures")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here; '--device cpu --size small' shows whether it runs at all; skipped")
        return
    started = time.perf_counter()
    registered()
    card = find_card(arguments)
    arguments.batches = arguments.batches or ([1, 32] if card.device.type == "cuda" else [1])
    spec = bev_spec(Task.load(arguments.task), arguments.size)
    if card.device.type == "cpu":
        arguments.weights = "float32"
    model = make_model(spec, card, getattr(torch, arguments.weights))
    bench = Bench(model, card, arguments.rounds)
    reached = ceilings(card)
    apart = off_by(spec, card, make_batch(spec, card.device, 1), model)
    facts = {
        "device": card.name,
        "torch": torch.__version__,
        "peak": {"tflops": card.teraflops, "tbs": card.terabytes},
        "reached": reached,
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights": arguments.weights,
        "boxes_off_by": apart,
    }
    print(json.dumps(facts), flush=True)
    shown = 0

    def save() -> None:
        nonlocal shown
        for row in bench.rows[shown:]:
            print(f"{row.name}, batch {row.batch}, {row.sensors}: {row.median_ms:.2f} ms {row.note}", flush=True)
        shown = len(bench.rows)
        if arguments.out:
            write(arguments.out, {**facts, "seconds": time.perf_counter() - started}, bench.rows)

    measure(bench, spec, arguments, started + arguments.seconds, save)
    how = "no autocast" if card.device.type == "cpu" else "autocast to bfloat16"
    took = time.perf_counter() - started
    print(f"\n{spec.name} of {spec.task}, {card.name}, weights in {arguments.weights}, {how}; {took:.0f} s\n")
    print(table(bench.rows))


if __name__ == "__main__":
    main()
