"""Ways of adapting the yard's reviewer to a task that it was not trained for: what each learns, costs and forgets.

The task is `benchmarks/adaptation/dispatch.py`: other questions about the yard's items, whose words the reviewer does
not have. Compared are full tuning, LoRA (in the language model alone, and in the evidence projector too), bottleneck
adapters (Houlsby et al., 2019) and new words alone, where everything else is frozen. All learn by the same loss, items
and number of steps, and all learn the rows of new words, which are counted. Items come from scenes that no bundled
model has seen (`train` from seed 700,000); learning rate and epoch are chosen on validation scenes, and figures are of
scenes of the test split: its appearance, layouts and voices never occur in training. The same items with the yard's own
questions tell what was forgotten.

    python benchmarks/adapters.py [--seeds 3] [--epochs 4] [--items-per-epoch 6000] [--curve]

Simulates 1,800 scenes first (ten minutes on two cores), then a few minutes a run on one. Runs that are done are not
done again, so that it may be stopped; `runs/adapters/adapters.json`, `.md` and `.png` tell what there is so far.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adaptation.dispatch import dispatch_items, dispatch_task, yard_items
from adaptation.latency import added, forms
from adaptation.methods import Method, adapt, begin
from adaptation.report import markdown, summary

from fusion.review.item_cache import ItemCache
from fusion.training.slot_training import told_right

SPLITS = {"train": 700_000, "val": 500_000, "test": 900_000}
LM = ("q_proj", "v_proj")
METHODS = (
    (Method("full", 0.0), (1e-3, 3e-4, 2e-3)),
    (Method("lora", 0.0, 2, (*LM, "projector")), (1e-2, 2e-2)),
    (Method("bottleneck", 0.0, 4), (1e-2, 5e-3)),
    (Method("words", 0.0), (2e-2,)),
    (Method("lora", 0.0, 4, LM), (1e-2, 2e-2)),
)
CURVE = tuple((Method("lora", 0.0, rank, (*LM, "projector")), (1e-2,)) for rank in (1, 4, 8, 16))


@dataclass(frozen=True)
class Items:
    """Items of the new task; `old` are the test items with the yard's own questions."""

    train: ItemCache
    validation: ItemCache
    test: ItemCache
    old: ItemCache


def main() -> None:
    """Do what has not been done, then write what there is."""
    arguments = _parser().parse_args()
    torch.set_num_threads(1)
    items, out = _items(arguments), arguments.out / f"runs-{arguments.epochs}x{arguments.items_per_epoch}"
    out.mkdir(parents=True, exist_ok=True)
    chosen = METHODS if not arguments.methods else [METHODS[i] for i in arguments.methods]
    rates: dict[str, float] = {}
    for seed in range(arguments.seeds):
        for method, tried in [*chosen, *(CURVE if arguments.curve and seed == 0 else ())]:
            learnt = rates.get(method.name)
            runs = [
                _run(method, rate, seed, items, out, arguments) for rate in ([learnt] if learnt is not None else tried)
            ]
            rates[method.name] = min(runs, key=lambda run: run["validation"]["nll"])["learning_rate"]
            _tell(out, arguments, items, rates)
    if arguments.rounds:
        networks = forms(METHODS[1][0], METHODS[2][0], items.test)
        latency = added(networks, items.test, arguments.rows, arguments.rounds)
        (out / "latency.json").write_text(json.dumps(latency, indent=1) + "\n", encoding="utf-8")
        _tell(out, arguments, items, rates)
    print((arguments.out / "adapters.md").read_text(encoding="utf-8"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/adapters"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--items-per-epoch", type=int, default=6000)
    parser.add_argument("--scenes", type=int, nargs=3, default=(1200, 200, 400), metavar=("TRAIN", "VAL", "TEST"))
    parser.add_argument("--methods", type=int, nargs="*", help="some of the methods alone, by their number from 0")
    parser.add_argument("--curve", action="store_true", help="LoRA of other ranks, too, from the first seed")
    parser.add_argument("--rounds", type=int, default=200, help="of timing; 0: none")
    parser.add_argument("--rows", type=int, default=32, help="of the batch that is timed")
    parser.add_argument("--workers", type=int, default=1, help="processes that simulate and see the scenes")
    return parser


def _items(arguments: argparse.Namespace) -> Items:
    made = {
        split: yard_items(arguments.out, split, seed, scenes, arguments.workers)
        for (split, seed), scenes in zip(SPLITS.items(), arguments.scenes, strict=True)
    }
    asked = {split: dispatch_items(cache, moments) for split, (cache, moments) in made.items()}
    return Items(asked["train"], asked["val"], asked["test"], made["test"][0])


def _run(
    method: Method, rate: float, seed: int, items: Items, out: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """One method from one seed at one rate, or what it left before."""
    method = Method(method.kind, rate, method.size, method.targets)
    path = out / f"{method.name.replace(' ', '-').replace(',', '-')}-{rate:g}-{seed}.json"
    if path.is_file():
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return told
    adapted, run, seconds = adapt(
        method, items.train, items.validation, seed, arguments.epochs, arguments.items_per_epoch
    )
    right, _ = told_right(adapted.network, items.test, 128)
    old, _ = told_right(adapted.asked, items.old, 128)
    np.save(path.with_suffix(".npy"), right.numpy())
    done = {
        "method": method.name,
        "learning_rate": rate,
        "seed": seed,
        "trainable": adapted.trainable,
        "parameters": adapted.whole,
        "validation": run.best,
        "epochs": run.epochs,
        "old_task": float(old.float().mean()),
        "seconds": seconds,
    }
    path.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
    print(f"{path.stem}: {run.best}; test {float(right.float().mean()):.4f}, {seconds:.0f} s", flush=True)
    return done


def _tell(out: Path, arguments: argparse.Namespace, items: Items, rates: dict[str, float]) -> None:
    runs, right = [], {}
    for path in sorted(out.glob("*-*.json"), key=lambda path: path.stat().st_mtime):
        run = json.loads(path.read_text(encoding="utf-8"))
        if rates.get(run["method"]) == run["learning_rate"]:
            runs.append(run)
            right[run["method"], run["seed"]] = np.load(path.with_suffix(".npy"))
    told: dict[str, Any] = {
        "command": f"benchmarks/adapters.py --epochs {arguments.epochs} --items-per-epoch {arguments.items_per_epoch}",
        "items": {"train": len(items.train), "validation": len(items.validation), "test": len(items.test)},
        "scenes": list(arguments.scenes),
        "old_task_before": _before(out, items),
    }
    told["methods"] = summary(runs, right, items.test.columns["scene"], told["old_task_before"])
    if (out / "latency.json").is_file():
        told["latency"] = json.loads((out / "latency.json").read_text(encoding="utf-8"))
    (arguments.out / "adapters.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    (arguments.out / "adapters.md").write_text(markdown(told), encoding="utf-8")
    _draw(arguments.out / "adapters.png", told["methods"])


def _before(out: Path, items: Items) -> float:
    """The share of the yard's own answers that the reviewer gives rightly before it is adapted."""
    path = out / "before.json"
    if not path.is_file():
        begun = begin(Method("words", 0.0), dispatch_task(items.old.task), 0)
        right, _ = told_right(begun.asked, items.old, 128)
        path.write_text(json.dumps(float(right.float().mean())) + "\n", encoding="utf-8")
    return float(json.loads(path.read_text(encoding="utf-8")))


def _draw(path: Path, methods: dict[str, Any]) -> None:
    """Answers right over the share that learns."""
    try:
        import matplotlib as mpl
    except ImportError:
        return
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for name, row in methods.items():
        value, low, high = row["answers"]
        axes.errorbar(100 * row["share"], value, yerr=[[value - low], [high - value]], fmt="o", capsize=3, label=name)
    axes.set(xscale="log", xlabel="trainable, % of the reviewer", ylabel="answers right, test")
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
