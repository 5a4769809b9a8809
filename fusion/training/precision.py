"""Variants of a fusion model's graphs that compute in fewer bits; let through only if they still tell what is what."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fusion.engines import Array
from fusion.errors import ConfigError, InputError, ModelError
from fusion.model.checkpoint import load_fusion
from fusion.preparation.fusion_spec import ENGINE_PRECISION, ITEMS, PRECISION_NAME, SPEC_NAME, FusionSpec
from fusion.training.fusion_data import PATTERNS, SceneSampler
from fusion.training.fusion_metrics import ANCHORS, HELD, MAY_LOSE, evaluate_fusion, lost
from fusion.training.graph_fusion import GraphFusion, rows_of
from fusion.training.int8 import quantise
from fusion.training.scene_features import FeatureCache, open_cache
from fusion.training.variants import BF16, INT8, able_backends, check_max_loss, paired_latency, staged

TOLD = (*HELD, "items")
_CALIBRATION_SCENES = 64
_UNSEEN = "no camera"
"""The sensor pattern in which every object is found at anchors alone."""
_IN_METRES = "lidar"
"""The graph that stays in float32: bfloat16 would round points 10 m away to 4 cm."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A variant to be made: `precision` is `int8` or `bf16`; `data` holds the caches `features-train`, for the ranges
    of activations, and `features-val`, for the gate. Figures of `HELD` that may lose `MAY_LOSE` may lose `max_loss`,
    the others that too where it is more than their own.
    """

    precision: str
    data: Path
    max_loss: float = MAY_LOSE
    threads: int = 2
    scenes: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in {INT8, BF16}:
            raise ConfigError(f"no graphs are made in {self.precision!r}; use {INT8} or {BF16}")
        check_max_loss(self.max_loss)


def write_variant(folder: Path, out: Path, wanted: Wanted) -> dict[str, Any]:
    """Write the graphs of the fusion model in `folder` to `out` in another precision, with `fusion.json` and what was
    measured in `precision.json`; returns the latter.

    The gate: on the validation scenes no figure of `HELD` may lose more than it may (see `Wanted`) against the float32
    graphs, in every engine that can run the variant; all sensors are there, but the camera for the figures at anchors.
    Raises `ModelError` that tells the losses when one does, or when no engine on this machine computes so, `InputError`
    when a cache is missing or of another trunk; nothing is left behind then.
    """
    spec = FusionSpec.load(folder)
    if spec.layout != ITEMS:
        raise ConfigError(f"{folder / SPEC_NAME}: a model over the ground has no validation figures to be held to yet")
    with staged(out) as part:
        backends = able_backends(wanted.precision)
        learn, unseen = (_cache(wanted.data / f"features-{split}", spec) for split in ("train", "val"))
        facts = _made(folder, part, wanted, learn)
        facts |= _measured(folder, part, wanted, unseen, backends)
        refuse_loss(facts["accuracy"], wanted)
        spec.save(part)
        (part / PRECISION_NAME).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return facts


def refuse_loss(accuracy: Mapping[str, Mapping[str, Mapping[str, float]]], wanted: Wanted) -> None:
    """The gate. `accuracy` holds, by engine, the figures of the graphs in `float32` and of the `variant`.

    Raises `ModelError` that tells what is lost, when a figure of `HELD` loses more than it may, or when the validation
    scenes give none to compare.
    """
    compared, losses = 0, []
    for backend, figures in accuracy.items():
        whole, less = figures["float32"], figures["variant"]
        for name in (name for name in HELD if name in whole):
            compared += 1
            allowed = wanted.max_loss if HELD[name] == MAY_LOSE else max(HELD[name], wanted.max_loss)
            if not lost(name, whole[name], less.get(name)) <= allowed + 1e-9:
                after = f"{less[name]:.4f}" if name in less else "nothing"
                losses.append(f"{name} {whole[name]:.4f} -> {after} in {backend} (within {allowed})")
    if not compared:
        raise ModelError("the validation scenes give no figure to hold a variant to; nothing was written")
    if losses:
        raise ModelError(f"{wanted.precision} loses too much: {', '.join(losses)}; nothing was written")


def report(facts: Mapping[str, Any]) -> str:
    """What `write_variant` measured, as Markdown."""
    lines = ["| engine | what | float32 | variant |", "|---|---|---|---|"]
    for backend, figures in facts["accuracy"].items():
        whole, less = figures["float32"], figures["variant"]
        lines += [f"| {backend} | {name} | {whole[name]:.4f} | {less.get(name, 0.0):.4f} |" for name in whole]
        for name, took in facts["latency_ms"][backend].items():
            told = f"{took['variant']:.2f} (ratio {took['ratio']:.2f})"
            lines.append(f"| {backend} | {name}, ms | {took['float32']:.2f} | {told} |")
    whole, less = (sum(facts["bytes"][which].values()) for which in ("float32", "variant"))
    return "\n".join([*lines, f"| | bytes | {whole} | {less} |"])


def _cache(folder: Path, spec: FusionSpec) -> FeatureCache:
    cache = open_cache(folder)
    if cache.meta.get("profile") != spec.profile:
        raise InputError(f"{folder}: features of another trunk; make them again with 'fusion train fusion'")
    return cache


def _made(folder: Path, part: Path, wanted: Wanted, learn: FeatureCache) -> dict[str, Any]:
    """Write the variant's graphs into `part`, and tell what they are."""
    spec = FusionSpec.load(folder)
    names = (*spec.sensors, "fuser")
    facts: dict[str, Any] = {"precision": wanted.precision, ENGINE_PRECISION: dict.fromkeys(names, "f32")}
    if wanted.precision == BF16:
        for name in names:
            shutil.copyfile(folder / f"{name}.onnx", part / f"{name}.onnx")
        facts[ENGINE_PRECISION] = {name: "f32" if name == _IN_METRES else BF16 for name in names}
    else:
        model = load_fusion(folder)
        graphs = GraphFusion.load(folder, spec, model.anchors, backend="onnxruntime", threads=wanted.threads)
        samples = _samples(learn, spec, _CALIBRATION_SCENES)
        facts["quantised"] = {
            name: quantise(folder / f"{name}.onnx", part / f"{name}.onnx", _inputs(graphs, name, samples))
            for name in tqdm(names, desc="int8", unit="graph")
        }
        if not any(facts["quantised"].values()):
            raise ModelError(f"{folder}: its graphs hold nothing that can be quantised")
    sizes = {which: {name: (root / f"{name}.onnx").stat().st_size for name in names}
             for which, root in (("float32", folder), ("variant", part))}  # fmt: skip
    return {**facts, "bytes": sizes}


def _samples(cache: FeatureCache, spec: FusionSpec, count: int) -> list[dict[str, Array]]:
    """Scenes evenly spread over a cache, all sensors there."""
    chosen = np.unique(np.linspace(0, len(cache) - 1, count).round().astype(int))
    sampler = SceneSampler(cache, spec)
    batch = sampler.gather([sampler.evaluation(int(index), PATTERNS["all"]) for index in chosen])
    return rows_of(batch)


def _inputs(graphs: GraphFusion, name: str, samples: Sequence[Mapping[str, Array]]) -> Iterator[dict[str, Array]]:
    for sample in samples:
        yield graphs.ports(sample) if name == "fuser" else graphs.readings(sample, name)


def _measured(
    folder: Path, part: Path, wanted: Wanted, unseen: FeatureCache, backends: Sequence[str]
) -> dict[str, Any]:
    """Accuracy and latency of both sets of graphs, in each engine."""
    spec, anchors = FusionSpec.load(folder), load_fusion(folder).anchors
    precisions = {name: BF16 for name in (*spec.sensors, "fuser") if name != _IN_METRES}
    sampler = SceneSampler(unseen, spec)
    accuracy: dict[str, Any] = {}
    latency: dict[str, Any] = {}
    for backend in backends:
        less = precisions if wanted.precision == BF16 else {}
        both = {
            "float32": GraphFusion.load(folder, spec, anchors, backend=backend, threads=wanted.threads),
            "variant": GraphFusion.load(part, spec, anchors, backend=backend, threads=wanted.threads, precisions=less),
        }
        figures = {}
        for which, graphs in tqdm(both.items(), desc=f"accuracy in {backend}", unit="model"):
            found = evaluate_fusion(graphs, sampler, patterns=["all", _UNSEEN], limit=wanted.scenes)
            told = found["all"] | {name: found[_UNSEEN][name] for name in ANCHORS if name in found[_UNSEEN]}
            figures[which] = {name: told[name] for name in TOLD if name in told}
        accuracy[backend] = figures
        latency[backend] = _latency(both, _samples(unseen, spec, 8))
    return {"accuracy": accuracy, "latency_ms": latency, "validation": {"max_loss": wanted.max_loss}}


def _latency(both: Mapping[str, GraphFusion], samples: Sequence[Mapping[str, Array]]) -> dict[str, dict[str, float]]:
    """Milliseconds of each graph in float32 and of its variant."""
    whole, less = both["float32"], both["variant"]
    return {
        name: paired_latency(whole.engines[name], less.engines[name], list(_inputs(whole, name, samples)))
        for name in whole.engines
    }
