"""Many independent scenes on disk, for training: pictures with box labels, sweeps, sound and truth.

A set is a folder with `images/STEM.jpg`, `labels/STEM.txt` (YOLO: class cx cy w h), `lidar/STEM.npy` (float16 rows x,
y, z, intensity), `audio/STEM.npy` ((48000,) int16), `truth/STEM.json`, and one `SPLIT.txt` of stems a split.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from fusion.errors import RecordingError
from fusion.geometry import CameraCalibration, Rig
from fusion.simulation.observe import clearly_seen
from fusion.simulation.rig import HEIGHT, SAMPLE_RATE_HZ, WIDTH
from fusion.simulation.sample import SimulatedSample, Split
from fusion.simulation.scene import simulate_scene
from fusion.types import AudioChunk, Box2D, Box3D, Image, PointCloud, Truth, TruthObject

CLASSES = ("drum", "pallet", "crate", "cone", "person", "forklift")
_JPEG_QUALITY = 95
_FOLDERS = ("images", "labels", "lidar", "audio", "truth")


def write_scene_set(root: Path, split: Split, count: int, first_seed: int, workers: int = 1) -> None:
    """Writes `count` scenes of the seeds from `first_seed` on, and lists them; those already there are kept, and others
    that lie there are not listed. Shows its progress.
    """
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    seeds = range(first_seed, first_seed + count)
    missing = [seed for seed in seeds if not (root / "truth" / f"{stem_of(split, seed)}.json").is_file()]
    write = partial(_write_seed, root, split)
    with tqdm(total=len(seeds), initial=len(seeds) - len(missing), desc=f"{split} scenes", unit="scene") as progress:
        if workers <= 1:
            for seed in missing:
                write(seed)
                progress.update()
        else:
            for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
                os.environ.setdefault(name, "1")  # read by the workers when they load numpy
            with multiprocessing.get_context("spawn").Pool(workers, initializer=_one_thread) as pool:
                for _ in pool.imap_unordered(write, missing, chunksize=4):
                    progress.update()
    (root / f"{split}.txt").write_text("".join(f"{stem_of(split, seed)}\n" for seed in seeds), encoding="utf-8")


def stem_of(split: Split, seed: int) -> str:
    """The name of a scene's files."""
    return f"{split}_{seed:06d}"


def read_scene(root: Path, stem: str) -> SimulatedSample:
    """A scene as it was written; the picture has been through JPEG. Raises `RecordingError`."""
    try:
        record = json.loads((root / "truth" / f"{stem}.json").read_text(encoding="utf-8"))
        encoded = (root / "images" / f"{stem}.jpg").read_bytes()
        points = np.load(root / "lidar" / f"{stem}.npy").astype(np.float32)
        pcm = np.load(root / "audio" / f"{stem}.npy")
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    except (OSError, ValueError) as error:
        raise RecordingError(f"{root}: scene {stem} cannot be read: {error}") from error
    if pixels is None:
        raise RecordingError(f"{root / 'images' / stem}.jpg: not a picture that can be decoded")
    return SimulatedSample(
        record["truth"]["time_ns"],
        Image(np.asarray(pixels, np.uint8), encoded, "jpeg"),
        PointCloud(points),
        AudioChunk(pcm, SAMPLE_RATE_HZ),
        _rig(record["rig"]),
        _truth(record["truth"]),
        record["notes"],
    )


def read_truth(root: Path, stem: str) -> Truth:
    """Only the truth of a scene. Raises `RecordingError`."""
    path = root / "truth" / f"{stem}.json"
    try:
        return _truth(json.loads(path.read_text(encoding="utf-8"))["truth"])
    except (OSError, ValueError, KeyError) as error:
        raise RecordingError(f"{path}: cannot be read: {error}") from error


def class_index(thing: TruthObject) -> int:
    """The number a YOLO label has for an object's class."""
    return CLASSES.index(thing.label)


def label_lines(truth: Truth, number: Callable[[TruthObject], int] = class_index) -> str:
    """The YOLO label of what is clearly seen, one line an object, each with its `number`."""
    lines = []
    for thing in truth.objects:
        box = thing.box2d
        if box is not None and clearly_seen(thing):
            shares = (
                (box.x1 + box.x2) / 2 / WIDTH,
                (box.y1 + box.y2) / 2 / HEIGHT,
                (box.x2 - box.x1) / WIDTH,
                (box.y2 - box.y1) / HEIGHT,
            )
            lines.append(f"{number(thing)} " + " ".join(f"{share:.6f}" for share in shares))
    return "".join(f"{line}\n" for line in lines)


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _write_seed(root: Path, split: Split, seed: int) -> None:
    sample, stem = simulate_scene(seed, split), stem_of(split, seed)
    parameters = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(sample.image.pixels, cv2.COLOR_RGB2BGR), parameters)
    (root / "images" / f"{stem}.jpg").write_bytes(encoded.tobytes())
    (root / "labels" / f"{stem}.txt").write_text(label_lines(sample.truth), encoding="utf-8")
    np.save(root / "lidar" / f"{stem}.npy", sample.cloud.points.astype(np.float16))
    np.save(root / "audio" / f"{stem}.npy", sample.audio.pcm)
    record = {"truth": asdict(sample.truth), "notes": dict(sample.notes), "rig": _rig_record(sample.rig)}
    path = root / "truth" / f"{stem}.json"
    partial_path = path.with_suffix(".part")
    partial_path.write_text(json.dumps(record), encoding="utf-8")
    partial_path.replace(path)


def _rig_record(rig: Rig) -> dict[str, Any]:
    cameras = {
        name: {
            "width": c.width,
            "height": c.height,
            "k": c.k.tolist(),
            "distortion": c.distortion.tolist(),
            "ego_from_camera": c.ego_from_camera.tolist(),
        }
        for name, c in rig.cameras.items()
    }
    return {"cameras": cameras, "ego_from_lidar": {name: t.tolist() for name, t in rig.ego_from_lidar.items()}}


def _rig(record: dict[str, Any]) -> Rig:
    cameras = {
        name: CameraCalibration(
            c["width"], c["height"], np.array(c["k"]), np.array(c["distortion"]), np.array(c["ego_from_camera"])
        )
        for name, c in record["cameras"].items()
    }
    return Rig(cameras, {name: np.array(t) for name, t in record["ego_from_lidar"].items()})


def _truth(record: dict[str, Any]) -> Truth:
    objects = tuple(
        TruthObject(
            **{
                **o,
                "box2d": Box2D(**o["box2d"]) if o["box2d"] else None,
                "box3d": Box3D(**o["box3d"]) if o["box3d"] else None,
            }
        )
        for o in record["objects"]
    )
    return Truth(record["time_ns"], objects, record["intent"], record["transcript"])
