"""Runs the device's own perception over labelled moments and caches what a reviewer would get of every item."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol, Self

from tqdm import tqdm

from fusion.codec import FULL, RATES, Profile, Rate
from fusion.engines import load_engine
from fusion.geometry import Rig
from fusion.perception.detector import DetectorResult, DetectorStage
from fusion.perception.detector_variant import detector_precision
from fusion.perception.evidence import crop_pixels, make_evidence
from fusion.perception.fused import FusionStage
from fusion.preparation.fusion_spec import SPEC_NAME
from fusion.review.answers import MATCH_IOU, match_truth, truth_answers
from fusion.review.crop import decode_crop
from fusion.review.features import ReviewFeatures, extract_features
from fusion.review.item_cache import LEAST, CachedItem, begin_cache, cached_item, shard_path, write_shard
from fusion.review.layout import FeatureLayout, layout_for
from fusion.task import Task
from fusion.training.review_sources import LabelledMoment, MomentSource
from fusion.types import Evidence, FusedScene, Image, ItemId, SampleId, SensorSlot

SHARD_MOMENTS = 50
_EPOCH = "cac4e00000000000"
_APART_NS = 60_000_000_000
"""Moments are presented a minute apart, so that the fusion stage has forgotten one when it sees the next."""


@dataclass(frozen=True, slots=True)
class ItemRecipe:
    """Which detections become items: at least `score_floor`, the best `most` a moment, matched to truth at `iou`."""

    score_floor: float = 0.05
    most: int = 24
    iou: float = MATCH_IOU
    backend: str = "auto"


class Fuser(Protocol):
    """`fusion.perception.fused.FusionStage`."""

    def run(
        self, time_ns: int, slots: Mapping[str, SensorSlot], rig: Rig | None, detector: DetectorResult | None
    ) -> FusedScene:
        """Fuse what is there; `objects[i]` belongs to detection i."""


class Device:
    """The device's models, and what they make of one moment."""

    def __init__(
        self,
        task: Task,
        profile: Profile,
        detector: DetectorStage,
        fuser: Fuser | None,
        layout: FeatureLayout,
        recipe: ItemRecipe,
    ) -> None:
        self.task, self.profile, self.layout = task, profile, layout
        self._detector, self._fuser, self._recipe = detector, fuser, recipe

    @classmethod
    def load(cls, task: Task, bundle: Path, recipe: ItemRecipe) -> Self:
        """The models of a bundle folder, one thread each."""
        profile = Profile.load(bundle)
        precision = detector_precision(bundle)
        engine = load_engine(bundle / "detector.onnx", backend=recipe.backend, threads=1, precision=precision)
        detector = DetectorStage(engine, task, profile, score_floor=recipe.score_floor)
        if not (bundle / SPEC_NAME).is_file():
            return cls(task, profile, detector, None, layout_for(task, profile), recipe)
        fuser = FusionStage.load(bundle, task, profile, backend=recipe.backend, threads=1)
        layout = layout_for(task, profile, token_width=fuser.spec.width, max_tokens=1 + fuser.spec.latents)
        return cls(task, profile, detector, fuser, layout, recipe)

    def detect(self, image: Image) -> DetectorResult:
        """What the detector finds in a picture."""
        return self._detector.run(image)

    def look(self, number: int, moment: LabelledMoment) -> tuple[DetectorResult, FusedScene | None]:
        """What the device makes of a moment, without and with its other sensors.

        `number` must grow from call to call: the fusion stage keeps tokens, and moments must not meet.
        """
        found = self._detector.run(moment.image)
        time_ns = (number + 1) * _APART_NS
        return found, self._fuser.run(time_ns, moment.slots, moment.rig, found) if self._fuser else None

    def evidence(
        self, item: ItemId, found: DetectorResult, fused: FusedScene | None, index: int, rate: Rate = FULL
    ) -> Evidence:
        """What would leave the device about detection `index` of a moment at a rate, by the real evidence codec."""
        time_ns, models = item.sample.sequence * _APART_NS, {"trunk": self.profile.sha256}
        return make_evidence(
            self.profile, item, self.task, time_ns, item.item, found, fused, index, (), 1.0, models, rate
        )

    def items(self, scene: int, number: int, moment: LabelledMoment) -> list[CachedItem]:
        """Every item of a moment, best detection first, through the real evidence codec; `number` as in `look`."""
        found, fused = self.look(number, moment)
        sample = SampleId("cache", _EPOCH, number + 1)
        candidates = [(found.placement.from_frame(t.box2d), t) for t in moment.truth if t.box2d is not None]
        items = []
        for index, detection in enumerate(found.detections[: self._recipe.most]):
            evidence, coarser = (
                self.evidence(ItemId(sample, index + 1), found, fused, index, rate) for rate in (FULL, LEAST)
            )
            features = extract_features(evidence, self.profile, self.layout)
            least = extract_features(coarser, self.profile, self.layout)
            crop = crop_pixels(moment.image, found.placement, detection.box, self.layout.crop)
            seen = ReviewFeatures(
                features.opinion,
                features.maps,
                features.tokens,
                decode_crop(crop, self.layout.crop, str(evidence.item)),
            )
            truth = match_truth(detection.box, candidates, self._recipe.iou)
            told = dict(zip(self.task.conditions, detection.condition_scores.tolist(), strict=False))
            items.append(cached_item(scene, evidence, seen, least, truth_answers(self.task, truth), told))
        return items


def build_item_cache(
    out: Path,
    task: Task,
    bundle: Path,
    source: MomentSource,
    recipe: ItemRecipe,
    *,
    workers: int = 1,
    quiet: bool = False,
) -> None:
    """Cache every item of `source` in `out`; shards by the same models of the same moments are kept. Shows progress."""
    device = Device.load(task, bundle, recipe)
    begin_cache(out, task, device.layout, device.profile, _origin(bundle, source, recipe))
    shards = range((len(source) + SHARD_MOMENTS - 1) // SHARD_MOMENTS)
    missing = [shard for shard in shards if not shard_path(out, shard).is_file()]
    with tqdm(
        total=len(shards), initial=len(shards) - len(missing), unit="shard", desc=out.name, disable=quiet
    ) as progress:
        if workers <= 1:
            for shard in missing:
                _write(device, source, out, shard)
                progress.update()
            return
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(name, "1")  # read by the workers when they load numpy
        start = (task, bundle, source, recipe, out)
        with multiprocessing.get_context("spawn").Pool(workers, initializer=_Worker.start, initargs=start) as pool:
            for _ in pool.imap_unordered(_Worker.work, missing):
                progress.update()


def _origin(bundle: Path, source: MomentSource, recipe: ItemRecipe) -> dict[str, str]:
    """Digests of the device's models and of the moments, and what else an item depends on."""
    graphs = {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(bundle.glob("*.onnx"))}
    told = f"{len(source)} of {type(source).__name__}: {source.facts()}"
    return graphs | {"recipe": repr(recipe), "source": told, "rates": repr(RATES)}


class _Worker:
    """A worker process's own device."""

    device: Device
    source: MomentSource
    out: Path

    @classmethod
    def start(cls, task: Task, bundle: Path, source: MomentSource, recipe: ItemRecipe, out: Path) -> None:
        cls.device, cls.source, cls.out = Device.load(task, bundle, recipe), source, out

    @classmethod
    def work(cls, shard: int) -> None:
        _write(cls.device, cls.source, cls.out, shard)


def _write(device: Device, source: MomentSource, out: Path, shard: int) -> None:
    numbers = range(shard * SHARD_MOMENTS, min((shard + 1) * SHARD_MOMENTS, len(source)))
    items = [item for n in numbers for item in device.items(source.scene(n), n, source.load(n))]
    write_shard(out, shard, items, device.task, device.layout)
