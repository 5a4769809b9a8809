"""The truth of one moment: boxes, how much of each object shows, and which sensor its condition can be told from."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from fusion.geometry import CameraCalibration, apply, invert
from fusion.simulation.light import Lighting
from fusion.simulation.mesh import IndexArray
from fusion.simulation.sample import action_for
from fusion.simulation.thing import Thing
from fusion.simulation.world import Silhouette
from fusion.types import Box2D, Float64Array, TruthObject

SEEN_SHARE = 0.25
SEEN_PIXELS = 10.0
_NEAR_M = 0.3
_RAYS = 900


def observe(
    objects: Sequence[Thing],
    silhouettes: Sequence[Silhouette],
    owners: IndexArray,
    calibration: CameraCalibration,
    yard_from_ego: Float64Array,
) -> tuple[TruthObject, ...]:
    """The truth of each object, nothing left out and nothing asked for; `owners` (H, W) are the picture's."""
    seen = []
    for index, thing in enumerate(objects):
        mask = (owners == index).view(np.uint8)
        x, y, width, height = cv2.boundingRect(mask)
        visible = int(np.count_nonzero(mask))
        box2d = Box2D(float(x), float(y), float(x + width), float(y + height)) if visible else None
        whole = _whole_pixels(thing, silhouettes[index], calibration, yard_from_ego) if visible else 0.0
        share = min(1.0, visible / whole) if whole else 0.0
        seen.append(
            TruthObject(
                thing.track,
                thing.label,
                thing.condition,
                box2d,
                thing.box_in(invert(yard_from_ego)),
                False,
                action_for(thing.label, thing.condition, asked=False),
                round(share, 4),
            )
        )
    return tuple(seen)


def clearly_seen(thing: TruthObject) -> bool:
    """Whether an object shows enough to be labelled: a quarter of it, and 10 pixels on its smaller side."""
    box = thing.box2d
    return box is not None and thing.visibility >= SEEN_SHARE and min(box.x2 - box.x1, box.y2 - box.y1) >= SEEN_PIXELS


def cue(thing: Thing, lighting: Lighting, *, asked: bool) -> str:
    """The sensor that tells what to do about a thing: camera, lidar, speech, or any of the first two."""
    if asked and thing.condition == "ok":
        return "speech"
    if thing.condition in ("leaking", "obstructing"):
        return "camera"
    if thing.condition == "dented":
        return "lidar" if lighting.dark else "any"
    if thing.condition == "broken" and thing.label == "pallet":
        return "camera"
    return "any"


def _whole_pixels(
    thing: Thing, silhouette: Silhouette, calibration: CameraCalibration, yard_from_ego: Float64Array
) -> float:
    """How many pixels the thing would cover with nothing before it and no edge to the picture."""
    camera_from_body = invert(calibration.ego_from_camera) @ invert(yard_from_ego) @ thing.yard_from_body
    points = apply(camera_from_body, thing.mesh.vertices.astype(np.float64))
    points = points[points[:, 2] > _NEAR_M]
    if not len(points):
        return 0.0
    focal = calibration.k[0, 0]
    pixels = points[:, :2] / points[:, 2:] * focal
    low, high = np.floor(pixels.min(0)), np.ceil(pixels.max(0))
    step = max(0.5, float(np.sqrt(np.prod(high - low) / _RAYS)))
    u, v = np.meshgrid(np.arange(low[0] + step / 2, high[0], step), np.arange(low[1] + step / 2, high[1], step))
    rays = np.stack([u.ravel() / focal, v.ravel() / focal, np.ones(u.size)], axis=1)
    body_from_camera = invert(camera_from_body)
    covered = silhouette.covered(body_from_camera[:3, 3], rays @ body_from_camera[:3, :3].T)
    return float(np.count_nonzero(covered)) * step**2
