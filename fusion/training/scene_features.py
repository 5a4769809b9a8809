"""Scenes → arrays for fast epochs: the torch-free perception is run once, and what it gives is memory-mapped.

A cache is a folder of `.npy` files, one row a scene, and `cache.json`. Rows of items come from the detector
and, as augmentation, from truth boxes moved and rescored at random.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fusion.codec import Profile
from fusion.engines import load_engine
from fusion.errors import InputError
from fusion.perception.detector import DetectorResult, DetectorStage
from fusion.perception.detector_variant import detector_precision
from fusion.perception.fused import told_conditions
from fusion.preparation import WINDOW_SAMPLES, points_input, speech_present
from fusion.preparation.boxes import box3d_vector
from fusion.preparation.items import item_arrays
from fusion.preparation.pillars import PILLAR_POINTS, PillarGrid
from fusion.preparation.rays import input_calibration
from fusion.review.answers import MATCH_IOU
from fusion.simulation.commands import references, sights
from fusion.simulation.observe import clearly_seen
from fusion.simulation.sample import SimulatedSample
from fusion.task import Task
from fusion.training.detection.prepared import facts_sha256
from fusion.training.detection.sources import picture_bytes
from fusion.training.review_sources import scene_facts
from fusion.types import Box2D, Float32Array, Modality, TruthObject

META_NAME = "cache.json"
FORMAT = 3
"""Grows when the arrays mean something else; older caches are made again."""
ROWS = 48
"""Item rows a scene: at most 24 of the detector, then moved truth boxes."""
DETECTOR_ROWS = 24
TRUTH_OBJECTS = 24
FROM_NOWHERE, FROM_DETECTOR, FROM_TRUTH = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class SceneFeatures:
    """One scene, or with a leading axis all scenes of a cache.

    `calibration` (25,) holds the 3x3 intrinsics of the model's input image and the 4x4 `ego_from_camera`.
    `points` float16 x y z intensity in the ego frame, the first `point_count` of them, only those on the pillar
    grid. `row_kind` and `row_truth` say where an item row comes from and which truth object it shows (-1: none).
    Truth: `label`, `condition` (-1: unknown), `asked`, `box3d` (x y z, log sizes, sine and cosine of the yaw),
    `clear`: whether enough of it shows to be labelled.
    """

    p4: NDArray[np.int8]
    p5: NDArray[np.int8]
    calibration: NDArray[np.float64]
    points: NDArray[np.float16]
    point_count: NDArray[np.int32]
    pcm: NDArray[np.int16]
    speech: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    box_rays: NDArray[np.float32]
    class_scores: NDArray[np.float32]
    condition_scores: NDArray[np.float32]
    item_place: NDArray[np.float32]
    item_points: NDArray[np.float16]
    item_point_count: NDArray[np.uint8]
    row_kind: NDArray[np.uint8]
    row_truth: NDArray[np.int16]
    truth_count: NDArray[np.int16]
    label: NDArray[np.int16]
    condition: NDArray[np.int16]
    asked: NDArray[np.bool_]
    box3d: NDArray[np.float32]
    has_box3d: NDArray[np.bool_]
    clear: NDArray[np.bool_]
    intent: NDArray[np.int16]


@dataclass(frozen=True, slots=True, eq=False)
class FeatureCache:
    """An opened cache: memory-mapped `features`, what was said, and what the features were made with.

    `phrases` are, for each scene, all noun phrases that name one object without doubt, with its truth index.
    """

    folder: Path
    features: SceneFeatures
    stems: tuple[str, ...]
    transcripts: tuple[str, ...]
    phrases: tuple[tuple[tuple[str, int], ...], ...]
    meta: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.stems)


class SceneReader:
    """Turns one sample into its `SceneFeatures`."""

    def __init__(self, task: Task, stage: DetectorStage, profile: Profile, seed: int = 7) -> None:
        self._task, self._stage, self._profile, self._seed = task, stage, profile, seed
        self._camera = task.of_modality(Modality.CAMERA)[0]
        self._lidar = task.of_modality(Modality.LIDAR)[0]

    def read(self, sample: SimulatedSample, index: int) -> SceneFeatures:
        """Run the perception; `index` seeds what is random."""
        task, profile = self._task, self._profile
        rng = np.random.default_rng([self._seed, index])
        found = self._stage.run(sample.image)
        calibration = input_calibration(
            sample.rig.cameras[self._camera], found.placement, profile.image_width, profile.image_height
        )
        points, valid = points_input(sample.cloud, sample.rig.ego_from_lidar[self._lidar])
        sweep = points[0][valid[0]]
        truth = sample.truth.objects[:TRUTH_OBJECTS]
        boxes, scores, kind, row_truth = self._rows(found, truth, rng)
        told = self._told(found, row_truth)
        items = item_arrays(boxes, scores, calibration, sweep, condition_scores=told, rows=ROWS)
        by_stride = dict(zip((level.stride for level in profile.levels), found.maps, strict=True))
        thinned = PillarGrid().thinned(sweep)
        cached = np.zeros((PILLAR_POINTS, 4), np.float16)
        cached[: len(thinned)] = thinned
        pcm = np.zeros(WINDOW_SAMPLES, np.int16)
        tail = sample.audio.pcm[-WINDOW_SAMPLES:]
        pcm[len(pcm) - len(tail) :] = tail
        return SceneFeatures(
            p4=by_stride[16],
            p5=by_stride[32],
            calibration=np.concatenate([calibration.k.ravel(), calibration.ego_from_camera.ravel()]),
            points=cached,
            point_count=np.array(len(thinned), np.int32),
            pcm=pcm,
            speech=np.array(speech_present(pcm)),
            boxes=items.boxes,
            box_rays=items.box_rays,
            class_scores=items.class_scores,
            condition_scores=items.condition_scores,
            item_place=items.item_place,
            item_points=items.item_points.astype(np.float16),
            item_point_count=items.item_points_valid.sum(1).astype(np.uint8),
            row_kind=_padded(kind, ROWS, FROM_NOWHERE, np.uint8),
            row_truth=_padded(row_truth, ROWS, -1, np.int16),
            truth_count=np.array(len(truth), np.int16),
            label=_padded([task.classes.index(t.label) for t in truth], TRUTH_OBJECTS, -1, np.int16),
            condition=_padded([_index(task.conditions, t.condition) for t in truth], TRUTH_OBJECTS, -1, np.int16),
            asked=_padded([t.asked_for for t in truth], TRUTH_OBJECTS, False, np.bool_),
            box3d=_boxes3d(truth),
            has_box3d=_padded([t.box3d is not None for t in truth], TRUTH_OBJECTS, False, np.bool_),
            clear=_padded([clearly_seen(t) for t in truth], TRUTH_OBJECTS, False, np.bool_),
            intent=np.array(_index(task.intents, sample.truth.intent), np.int16),
        )

    def _rows(
        self, found: DetectorResult, truth: tuple[TruthObject, ...], rng: np.random.Generator
    ) -> tuple[list[Box2D], Float32Array, list[int], list[int]]:
        targets = [None if t.box2d is None else found.placement.from_frame(t.box2d) for t in truth]
        boxes, scores, kind, row_truth = [], [], [], []
        for detection in found.detections[:DETECTOR_ROWS]:
            boxes.append(detection.box)
            scores.append(detection.class_scores)
            kind.append(FROM_DETECTOR)
            row_truth.append(claim(detection.box, targets))
        for _ in range(2):
            for index, target in enumerate(targets):
                if target is None or len(boxes) == ROWS or not clearly_seen(truth[index]):
                    continue
                boxes.append(_moved(target, rng, self._profile.image_width, self._profile.image_height))
                scores.append(_made_up_scores(self._task.classes.index(truth[index].label), self._task, rng))
                kind.append(FROM_TRUTH)
                row_truth.append(index)
        table = np.array(scores, np.float32).reshape(len(boxes), len(self._task.classes))
        return boxes, table, kind, row_truth

    def _told(self, found: DetectorResult, row_truth: Sequence[int]) -> Float32Array:
        """The detector's condition scores of each row (n, K); a moved truth box has those of the best detection of the
        same object, or knows nothing.
        """
        count = len(self._task.conditions)
        own = told_conditions(found.detections[:DETECTOR_ROWS], count)
        best: dict[int, Float32Array] = {}
        for index, scores in zip(row_truth, own, strict=False):
            best.setdefault(index, scores)
        unknown = np.zeros(count, np.float32)
        moved = [best.get(index, unknown) for index in row_truth[len(own) :]]
        return np.array([*own, *moved], np.float32).reshape(len(row_truth), count)


def claim(box: Box2D, targets: Iterable[Box2D | None]) -> int:
    """Index of the target that `box` overlaps most, if by `MATCH_IOU` or more, else -1."""
    overlaps = [0.0 if target is None else box.iou(target) for target in targets]
    best = int(np.argmax(overlaps)) if overlaps else -1
    return best if best >= 0 and overlaps[best] >= MATCH_IOU else -1


def cache_features(
    scenes: Path,
    out: Path,
    task: Task,
    bundle: Path,
    *,
    split: str,
    backend: str = "auto",
    threads: int = 2,
    seed: int = 7,
) -> FeatureCache:
    """Run the bundle's detector over a split of the scene set `scenes` and write the cache `out`; done already, it is
    opened. A cache made with another trunk, or of scenes that were made anew, is made again. Raises `InputError` when
    there are no scenes, `RecordingError` when one lacks a file.
    """
    from fusion.simulation.scene_set import read_scene

    profile, listing = Profile.load(bundle), scenes / f"{split}.txt"
    stems = listing.read_text(encoding="utf-8").split() if listing.is_file() else []
    if not stems:
        raise InputError(f"{listing}: no scenes; make some with 'fusion simulate {task.name} --scenes N -o {scenes}'")
    meta = {
        "format": FORMAT,
        "profile": profile.sha256,
        "task": task.name,
        "scenes": str(scenes),
        "seed": seed,
        "stems": stems,
        "scenes_sha256": contents_sha256(scenes, stems),
    }
    if (ready := finished_cache(out, meta)) is not None:
        return ready
    precision = detector_precision(bundle)
    engine = load_engine(bundle / "detector.onnx", backend=backend, threads=threads, precision=precision)
    reader = SceneReader(task, DetectorStage(engine, task, profile), profile, seed)
    return write_cache(out, stems, lambda stem: read_scene(scenes, stem), reader, meta)


def contents_sha256(scenes: Path, stems: Sequence[str]) -> str:
    """The digest of scenes' names, truth, and sizes of pictures, sweeps and sounds, found without loading them.

    Raises `RecordingError` when a file is missing.
    """
    sizes = ([picture_bytes(scenes / part / f"{stem}.npy") for part in ("lidar", "audio")] for stem in stems)
    return facts_sha256(chain(scene_facts(scenes, stems), sizes))


def write_cache(
    out: Path,
    stems: list[str],
    read: Callable[[str], SimulatedSample],
    reader: SceneReader,
    meta: Mapping[str, Any],
) -> FeatureCache:
    """Write one row a stem, and `cache.json` last: a cache without it is not finished. `meta` becomes part of that."""
    out.mkdir(parents=True, exist_ok=True)
    (out / META_NAME).unlink(missing_ok=True)
    arrays: dict[str, NDArray[Any]] = {}
    transcripts: list[str] = []
    phrases: list[list[tuple[str, int]]] = []
    for index, stem in enumerate(tqdm(stems, desc=f"features {out.name}", unit="scene")):
        sample = read(stem)
        row = reader.read(sample, index)
        transcripts.append(sample.truth.transcript)
        phrases.append(_phrases(sample.truth.objects[:TRUTH_OBJECTS]))
        for field in fields(row):
            value = np.asarray(getattr(row, field.name))
            if field.name not in arrays:
                path = out / f"{field.name}.npy"
                arrays[field.name] = np.lib.format.open_memmap(
                    path, mode="w+", dtype=value.dtype, shape=(len(stems), *value.shape)
                )
            arrays[field.name][index] = value
    for array in arrays.values():
        array.flush()  # type: ignore[attr-defined]
    text = json.dumps({**meta, "stems": stems, "transcripts": transcripts, "phrases": phrases})
    (out / META_NAME).write_text(text, encoding="utf-8")
    return open_cache(out)


def open_cache(folder: Path) -> FeatureCache:
    """Map a finished cache. Raises `InputError` when there is none."""
    try:
        meta = json.loads((folder / META_NAME).read_text(encoding="utf-8"))
        arrays = {f.name: np.load(folder / f"{f.name}.npy", mmap_mode="c") for f in fields(SceneFeatures)}
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: not a finished feature cache ({error}); make it again") from None
    stems, transcripts = tuple(meta.pop("stems")), tuple(meta.pop("transcripts"))
    phrases = tuple(tuple((str(text), int(index)) for text, index in scene) for scene in meta.pop("phrases"))
    return FeatureCache(folder, SceneFeatures(**arrays), stems, transcripts, phrases, meta)


def finished_cache(out: Path, meta: Mapping[str, Any]) -> FeatureCache | None:
    """The cache in `out`, None when there is none that was finished with this `meta`, stems included."""
    if not (out / META_NAME).is_file():
        return None
    cache = open_cache(out)
    same = {**cache.meta, "stems": list(cache.stems)} == meta
    return cache if same else None


def _moved(box: Box2D, rng: np.random.Generator, width: int, height: int) -> Box2D:
    """`box` shifted and stretched by about as much as a detector errs."""
    w, h = box.x2 - box.x1, box.y2 - box.y1
    dx1, dy1, dx2, dy2 = rng.normal(0, 0.04, 4).clip(-0.12, 0.12)
    x1, y1 = max(0.0, box.x1 + dx1 * w), max(0.0, box.y1 + dy1 * h)
    x2, y2 = min(float(width), box.x2 + dx2 * w), min(float(height), box.y2 + dy2 * h)
    return Box2D(x1, y1, max(x2, x1 + 1), max(y2, y1 + 1))


def _made_up_scores(label: int, task: Task, rng: np.random.Generator) -> Float32Array:
    scores = rng.beta(0.4, 12.0, len(task.classes))
    scores[label] = rng.beta(5.0, 1.5)
    return scores.astype(np.float32)


def _phrases(truth: tuple[TruthObject, ...]) -> list[tuple[str, int]]:
    index = {t.track: i for i, t in enumerate(truth)}
    return [(phrase, index[track]) for _, phrase, track in references(sights(truth))]


def _boxes3d(truth: Iterable[TruthObject]) -> Float32Array:
    table = np.zeros((TRUTH_OBJECTS, 8), np.float32)
    for row, t in zip(table, truth, strict=False):
        if t.box3d is not None:
            row[:] = box3d_vector(t.box3d)
    return table


def _index(names: tuple[str, ...], name: str | None) -> int:
    return names.index(name) if name in names else -1


def _padded(values: Iterable[Any], length: int, fill: Any, dtype: Any) -> NDArray[Any]:
    table = np.full(length, fill, dtype)
    listed = list(values)
    table[: len(listed)] = listed
    return table
