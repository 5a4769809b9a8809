"""What leaves the device about one item, made of what the device knows."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from fusion.codec import FULL, Profile, Rate, encode_maps, item_gate, quantize_tokens
from fusion.errors import InputError
from fusion.perception.detector import DetectorResult
from fusion.preparation import Placement
from fusion.task import Task
from fusion.types import (
    Box2D,
    DeviceOpinion,
    Evidence,
    FusedObject,
    FusedScene,
    FusedTokens,
    Image,
    ItemId,
    PixelCrop,
    SendReason,
    UInt8Array,
)

_CONTEXT = 0.25
_LEAST_CROP_PX = 64.0


def make_evidence(
    profile: Profile,
    item: ItemId,
    task: Task,
    time_ns: int,
    track: int,
    detector: DetectorResult,
    scene: FusedScene | None,
    index: int,
    reasons: tuple[SendReason, ...],
    value: float,
    models: Mapping[str, str],
    rate: Rate = FULL,
) -> Evidence:
    """The evidence about detection `index`, without pixels; `scene` is None where the task has no fused model.

    The `tokens` lane is the object's own token, then, at a `rate` that has them, the scene's latents.
    """
    detection = detector.detections[index]
    windows, gates = item_gate(profile, detection.box, detector.cell_scores)
    found = scene.objects[index] if scene is not None else None
    return Evidence(
        item=item,
        task=task.name,
        time_ns=time_ns,
        track=track,
        profile=profile.sha256,
        models=dict(models),
        box=detection.box,
        image_width=profile.image_width,
        image_height=profile.image_height,
        class_scores={name: float(s) for name, s in zip(task.classes, detection.class_scores, strict=True)},
        opinion=_opinion(found) if found is not None else DeviceOpinion(),
        reasons=reasons,
        value=value,
        ages_ns=dict(scene.ages_ns) if scene is not None else {},
        maps=encode_maps(
            profile,
            detector.maps,
            windows,
            gates,
            step_exponent=min(rate.step_exponent, profile.max_step_exponent),
            layers=rate.layers,
        ),
        tokens=_tokens(found, scene, rate) if found is not None and scene is not None else None,
    )


def crop_pixels(image: Image, placement: Placement, box: Box2D, size: int = 96, quality: int = 90) -> PixelCrop:
    """`cut_out` as a JPEG; `area` is the part of the frame it shows."""
    shown, area = cut_out(image, placement, box, size)
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(shown, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return PixelCrop(encoded.tobytes(), "jpeg", area)


def cut_out(image: Image, placement: Placement, box: Box2D, size: int) -> tuple[UInt8Array, Box2D]:
    """A square (size, size, 3) RGB around `box` (pixels of the model's input) with a quarter of its size as context,
    and the part of the frame it shows.

    The square spans at least 64 pixels of the frame and is moved, not shrunk, at the frame's border. Raises
    `InputError` when the box lies outside the frame.
    """
    height, width = image.pixels.shape[:2]
    frame_box = placement.to_frame(box)
    if frame_box.x2 <= 0 or frame_box.y2 <= 0 or frame_box.x1 >= width or frame_box.y1 >= height:
        raise InputError(f"box {frame_box} lies outside the {width}x{height} frame")
    longer = max(frame_box.x2 - frame_box.x1, frame_box.y2 - frame_box.y1)
    side = round(max(longer * (1 + 2 * _CONTEXT), _LEAST_CROP_PX))
    left, right = _span((frame_box.x1 + frame_box.x2) / 2, side, width)
    top, bottom = _span((frame_box.y1 + frame_box.y2) / 2, side, height)
    cut = image.pixels[top:bottom, left:right]
    method = cv2.INTER_AREA if max(cut.shape[:2]) > size else cv2.INTER_LINEAR
    shown = np.asarray(cv2.resize(cut, (size, size), interpolation=method), np.uint8)
    return shown, Box2D(float(left), float(top), float(right), float(bottom))


def _span(centre: float, side: int, length: int) -> tuple[int, int]:
    """First and one past the last of `side` pixels about `centre`, moved into 0..`length`."""
    side = min(side, length)
    start = min(max(round(centre - side / 2), 0), length - side)
    return start, start + side


def _opinion(found: FusedObject) -> DeviceOpinion:
    return DeviceOpinion(found.label_scores, found.condition_scores, found.asked_score, found.box3d)


def _tokens(found: FusedObject, scene: FusedScene, rate: Rate) -> FusedTokens:
    latents = scene.latents if rate.scene_tokens else scene.latents[:0]
    return quantize_tokens(np.concatenate([found.token[None], latents]).astype(np.float32, copy=False))
