"""Variants of a bundled detector that compute in fewer bits; let through only if they find as much.

The maps that come out of a trunk are the evidence codec's symbols, and one that computes in int8 gives other symbols.
So a variant in int8 is a trunk of its own: its profile has its own entropy tables and fingerprint, and whoever serves
or was trained on the float32 one refuses it by name. A variant in bf16 is the same graph, computed otherwise; its
symbols differ no more than those of two engines do, and its profile is the same.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fusion.codec import Profile
from fusion.engines import Array, Engine, load_engine
from fusion.errors import ConfigError, ModelError
from fusion.perception.detector_variant import VARIANT_NAME
from fusion.preparation import letterbox, to_input
from fusion.recording.pictures.image_folder import ImageFolder
from fusion.task import Task
from fusion.training.bundle import GRAPH_NAME, write_card, write_digests
from fusion.training.detection.export import refit_profile
from fusion.training.detection.make import MAY_LOSE
from fusion.training.detection.measure import measure_engine
from fusion.training.detection.mixed import MixedGraph
from fusion.training.detection.sources import calibration_pictures, split_stems
from fusion.training.variants import BF16, INT8, able_backends, check_max_loss, paired_latency, staged
from fusion.types import Float32Array, UInt8Array

_CALIBRATION_IMAGES, _SENSITIVITY_IMAGES, _LATENCY_IMAGES = 60, 8, 8
_OPEN = 0.05
"""A block is judged at the anchors whose best score in float32 is at least so much."""
_LEAST_MAP50 = 0.05
"""Below so much in float32 it finds what it finds by chance: wrong pictures, wrong classes, or nothing learnt."""
Figures = dict[str, dict[str, dict[str, float]]]
"""By engine, then `float32` or `variant`, then figure."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A variant to be made: `precision` is `int8` or `bf16`.

    mAP50 and mAP50-95 on the validation split may each fall by `max_loss`.
    """

    precision: str
    max_loss: float = MAY_LOSE
    threads: int = 2

    def __post_init__(self) -> None:
        if self.precision not in {INT8, BF16}:
            raise ConfigError(f"no detector is made in {self.precision!r}; use {INT8} or {BF16}")
        check_max_loss(self.max_loss)


def write_detector_variant(
    task: Task, bundle: Path, pictures: ImageFolder, out: Path, wanted: Wanted
) -> dict[str, Any]:
    """Write the detector of `bundle` to the new folder `out` in another precision, with its profile, its card and what
    was measured; returns the latter.

    Ranges and tables come from pictures to learn from, the gate from those to validate on. Where the whole graph in
    int8 loses too much, its most sensitive blocks are left in float32: one, two, four and so on. Raises `ModelError`
    that tells the losses when nothing passes in every engine that can run it, or when there is nothing to lose because
    the float32 graph finds next to none of what those pictures show; nothing is left behind then.
    """
    profile = Profile.load(bundle)
    profile.check_trunk(bundle / GRAPH_NAME)
    backends = able_backends(wanted.precision)
    with staged(out) as part:
        gate = _Gate(task, bundle / GRAPH_NAME, profile, pictures, wanted, backends)
        learn = calibration_pictures(pictures, _CALIBRATION_IMAGES)
        if wanted.precision == BF16:
            shutil.copyfile(bundle / GRAPH_NAME, part / GRAPH_NAME)
            figures = gate.measure(part / GRAPH_NAME)
            gate.refuse(figures)
            made: dict[str, Any] = {"accuracy": figures}
        else:
            made = _int8(bundle / GRAPH_NAME, part / GRAPH_NAME, profile, learn, gate)
            profile = refit_profile(profile, part / GRAPH_NAME, learn, threads=wanted.threads)
        profile.save(part)
        facts = {"precision": wanted.precision, "max_loss": wanted.max_loss, **made}
        facts["bytes"] = {which: (root / GRAPH_NAME).stat().st_size for which, root in _both(bundle, part)}
        facts["latency_ms"] = gate.latency(part / GRAPH_NAME, learn[:_LATENCY_IMAGES])
        facts["profile_sha256"] = {"float32": Profile.load(bundle).sha256, "variant": profile.sha256}
        (part / VARIANT_NAME).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        _describe(task, part, facts, profile)
    return facts


def report(facts: Mapping[str, Any]) -> str:
    """What `write_detector_variant` measured, as Markdown."""
    lines = ["| engine | what | float32 | variant |", "|---|---|---|---|"]
    for backend, figures in facts["accuracy"].items():
        for name, value in figures["float32"].items():
            lines.append(f"| {backend} | {name} | {value:.4f} | {figures['variant'][name]:.4f} |")
        took = facts["latency_ms"][backend]
        lines.append(f"| {backend} | ms | {took['float32']:.2f} | {took['variant']:.2f} (ratio {took['ratio']:.2f}) |")
    lines.append(f"| | bytes | {facts['bytes']['float32']} | {facts['bytes']['variant']} |")
    if "in_float" in facts:
        lines += ["", f"in float32: {', '.join(facts['in_float']) or 'only what decodes'}"]
    return "\n".join(lines)


class _Gate:
    """Holds graphs to what the float32 one finds on the validation pictures, in each engine."""

    def __init__(
        self, task: Task, whole: Path, profile: Profile, pictures: ImageFolder, wanted: Wanted, backends: Sequence[str]
    ) -> None:
        self._task, self._profile, self._pictures = task, profile, pictures
        self._stems = split_stems(pictures)[1]
        self._whole, self._wanted, self._backends = whole, wanted, backends
        self._usual = {name: self._figures(self._load(whole, name, "f32"), f"float32 in {name}") for name in backends}
        refuse_blind(whole, [found["mAP50"] for found in self._usual.values()])

    def measure(self, graph: Path) -> Figures:
        """Figures of both graphs by engine."""
        precision = BF16 if self._wanted.precision == BF16 else "f32"
        return {
            name: {
                "float32": self._usual[name],
                "variant": self._figures(self._load(graph, name, precision), f"{self._wanted.precision} in {name}"),
            }
            for name in self._backends
        }

    def passes(self, figures: Figures) -> bool:
        """Whether no engine loses too much."""
        return all(_loss(found) <= self._wanted.max_loss for found in figures.values())

    def refuse(self, figures: Figures, tried: str = "") -> None:
        """Raise `ModelError` that tells the losses unless the figures pass."""
        if self.passes(figures):
            return
        told = ", ".join(
            f"{name} {found['float32'][name]:.4f} -> {found['variant'][name]:.4f} in {backend}"
            for backend, found in figures.items()
            for name in found["float32"]
        )
        raise ModelError(
            f"{self._wanted.precision} loses too much{tried}: {told}; {self._wanted.max_loss} of each may be lost; "
            "nothing was written"
        )

    def latency(self, graph: Path, images: Sequence[UInt8Array]) -> dict[str, dict[str, float]]:
        """Milliseconds of both graphs by engine."""
        precision = BF16 if self._wanted.precision == BF16 else "f32"
        rows = list(readings(images, self._profile))
        return {
            name: paired_latency(self._load(self._whole, name, "f32"), self._load(graph, name, precision), rows)
            for name in self._backends
        }

    def _load(self, graph: Path, backend: str, precision: str) -> Engine:
        return load_engine(graph, backend=backend, threads=self._wanted.threads, precision=precision)

    def _figures(self, engine: Engine, what: str) -> dict[str, float]:
        found = measure_engine(self._task, engine, self._profile, map(self._pictures.load, self._stems), what=what)
        return {"mAP50": found.map50, "mAP50-95": found.map50_95}


def refuse_blind(graph: Path, found: Sequence[float]) -> None:
    """Raise `ModelError` when any mAP50 in `found`, of the float32 `graph`, is next to nothing: a gate would let
    everything pass, for there is nothing to lose.
    """
    if low := [value for value in found if not value >= _LEAST_MAP50]:
        raise ModelError(
            f"{graph}: finds nothing or next to nothing that the validation pictures in --data show: mAP50 "
            f"{low[0]:.4f}, and at least {_LEAST_MAP50} is needed to hold anything to it; the pictures or their "
            "classes do not fit it: give those it was made for"
        )


def _loss(found: Mapping[str, Mapping[str, float]]) -> float:
    """The larger loss: boxes that still hit but fit worse are seen in mAP50-95 alone."""
    return max(found["float32"][name] - found["variant"][name] for name in found["float32"])


def _int8(graph: Path, out: Path, profile: Profile, learn: Sequence[UInt8Array], gate: _Gate) -> dict[str, Any]:
    """Write the first graph of the ladder that passes to `out`. Raises `ModelError` when none does."""
    with tempfile.TemporaryDirectory() as scratch:
        shown = tqdm(readings(learn, profile), total=len(learn), desc="ranges", unit="image")
        mixed = MixedGraph(graph, Path(scratch), shown)
        operators = mixed.write(out, ())
        figures = gate.measure(out)
        sensitive: dict[str, float] = {}
        count = 0
        while not gate.passes(figures):
            sensitive = sensitive or sensitivity(mixed, graph, Path(scratch), learn[:_SENSITIVITY_IMAGES], profile)
            count = 2 * count or 1
            if count >= len(mixed.blocks):
                gate.refuse(figures, f", even with {count // 2} of its {len(mixed.blocks)} blocks in float32")
            operators = mixed.write(out, list(sensitive)[:count])
            figures = gate.measure(out)
    kept = list(sensitive)[:count]
    told = {"sensitivity": {name: round(value, 5) for name, value in sensitive.items()}} if sensitive else {}
    return {"accuracy": figures, "quantised": operators, "blocks": list(mixed.blocks), "in_float": kept, **told}


def sensitivity(
    mixed: MixedGraph, graph: Path, scratch: Path, images: Sequence[UInt8Array], profile: Profile
) -> dict[str, float]:
    """How far each block alone in int8 moves the answers on `images`, the worst first: the change of the best scores
    and of the boxes, at the anchors that score in float32, as a share.
    """
    rows = list(readings(images, profile))
    usual = _answers(graph, rows)
    found = {}
    for block in tqdm(mixed.blocks, desc="sensitivity", unit="block"):
        alone = scratch / f"alone-{graph.name}"
        mixed.write(alone, [other for other in mixed.blocks if other != block])
        found[block] = float(np.mean([_moved(*pair) for pair in zip(usual, _answers(alone, rows), strict=True)]))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _answers(graph: Path, rows: Sequence[Mapping[str, Array]]) -> list[Float32Array]:
    engine = load_engine(graph, backend="onnxruntime", threads=1)
    return [engine.run(row)["predictions"][0] for row in rows]


def _moved(usual: Float32Array, less: Float32Array) -> float:
    """Predictions (4 + C, A) of two graphs; where nothing scores, the best anchors are compared."""
    best = usual[4:].max(0)
    chosen = best >= min(_OPEN, np.sort(best)[-10:].min())
    usual, less = usual[:, chosen], less[:, chosen]
    scores = np.abs(usual[4:] - less[4:]).sum() / max(float(usual[4:].sum()), 1e-9)
    sides = np.abs(usual[:4] - less[:4]).sum(0) / np.maximum(usual[2:4].sum(0), 1.0)
    return float(scores + sides.mean())


def readings(images: Sequence[UInt8Array], profile: Profile) -> Iterator[dict[str, Array]]:
    """Pictures (H, W, 3) as the graph takes them."""
    for image in images:
        yield {"images": to_input(letterbox(image, profile.image_width, profile.image_height)[0])}


def _both(bundle: Path, part: Path) -> tuple[tuple[str, Path], tuple[str, Path]]:
    return ("float32", bundle), ("variant", part)


def _describe(task: Task, part: Path, facts: Mapping[str, Any], profile: Profile) -> None:
    same = facts["profile_sha256"]["float32"] == profile.sha256
    told = (
        "the same as the float32 detector's"
        if same
        else "a new one: fusion models and reviewers of the float32 detector refuse it, and a service must be given "
        "this bundle before a device uses it"
    )
    accuracy = {
        f"{name}, {which}, {backend}": round(value, 4)
        for backend, found in facts["accuracy"].items()
        for which, figures in found.items()
        for name, value in figures.items()
    }
    write_card(
        part,
        f"Detector of task {task.name} in {facts['precision']}",
        {
            "Data": f"{task.source}; ranges and tables from pictures to learn from, the gate on those that validate",
            "Variant": {key: facts[key] for key in ("precision", "max_loss", "in_float", "quantised") if key in facts},
            "Validation": accuracy,
            "Fingerprint": {"profile_sha256": profile.sha256, "trunk_sha256": profile.trunk_sha256, "profile": told},
        },
    )
    write_digests(part)
