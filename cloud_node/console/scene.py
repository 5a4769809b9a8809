"""What a device sent about one item, made visible. Whatever cannot be read becomes a line, never an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloud_node.console.heatmap import energy_map, heatmap_png, picture_png
from cloud_node.console.top_view import TopView, top_view
from cloud_node.outcome import Outcome
from fusion.codec import Profile
from fusion.codec.points import decode_points
from fusion.codec.sound import decode_sound
from fusion.errors import EvidenceError
from fusion.review.crop import read_crop
from fusion.types import Box2D, Box3D, Evidence, Float64Array
from fusion.wire.convert import parse_evidence

ZOOM = 1.6
"""The near view shows the box, grown so much, or all of the crop."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """What is told without the evidence: the frame's size in pixels, the device's box in it, where it is in space."""

    width: int
    height: int
    box: Box2D
    label: str
    box3d: Box3D | None


@dataclass(slots=True, eq=False)
class Scene:
    """One item's pictures and sound; None what was not sent, with the reason among `lines` where there is one."""

    frame: Frame | None = None
    heat: bytes | None = None
    crop: bytes | None = None
    crop_area: Box2D | None = None
    above: TopView | None = None
    sound: bytes | None = None
    lanes: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @property
    def near(self) -> Box2D | None:
        """The part of the frame that the near view shows."""
        if self.frame is None:
            return None
        box, area = self.frame.box, self.crop_area
        x, y = (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2
        half_x, half_y = max(ZOOM * (box.x2 - box.x1) / 2, 16), max(ZOOM * (box.y2 - box.y1) / 2, 16)
        near = Box2D(x - half_x, y - half_y, x + half_x, y + half_y)
        if area is None:
            return near
        return Box2D(min(near.x1, area.x1), min(near.y1, area.y1), max(near.x2, area.x2), max(near.y2, area.y2))


def read_scene(outcome: Outcome, profiles: Mapping[str, Profile], fault: str = "") -> Scene:
    """Everything that can be shown of an outcome read with its evidence; `fault` says why it was read without."""
    scene = Scene(frame=frame_of(outcome.header))
    if scene.frame is None:
        scene.lines.append("The evidence could not be read when it came, so there is nothing to show.")
    if fault:
        scene.lines.append(fault)
    elif outcome.evidence is None:
        scene.lines.append("The evidence was not kept (keep_evidence = false, or it was removed).")
    points = None
    try:
        evidence = None if outcome.evidence is None else parse_evidence(outcome.evidence)
    except EvidenceError as error:
        scene.lines.append(f"The evidence cannot be read: {error}")
        evidence = None
    if evidence is not None:
        _show_maps(scene, evidence, profiles)
        _show_crop(scene, evidence)
        points = _points(scene, evidence)
        _let_hear(scene, evidence)
        scene.lanes = _lanes(evidence)
    scene.above = top_view(scene.frame.box3d if scene.frame else None, points)
    return scene


def frame_of(header: Mapping[str, Any] | None) -> Frame | None:
    """The frame that an outcome's header tells of."""
    if header is None:
        return None
    width, height = header["image"]
    scores, box3d = header["class_scores"], header["opinion"]["box3d"]
    label = max(scores, key=scores.get) if scores else ""
    return Frame(width, height, Box2D(**header["box"]), label, Box3D(**box3d) if box3d else None)


def _show_maps(scene: Scene, evidence: Evidence, profiles: Mapping[str, Profile]) -> None:
    if evidence.maps is None:
        scene.lines.append("No feature maps were sent.")
        return
    profile = profiles.get(evidence.profile)
    if profile is None:
        scene.lines.append(f"The feature maps are of trunk {evidence.profile[:12]}, whose profile is not loaded here.")
        return
    try:
        scene.heat = heatmap_png(energy_map(profile, evidence.maps))
    except EvidenceError as error:
        scene.lines.append(f"The feature maps cannot be read: {error}")


def _show_crop(scene: Scene, evidence: Evidence) -> None:
    if evidence.pixels is None:
        return
    try:
        scene.crop = picture_png(read_crop(evidence.pixels, str(evidence.item)).pixels)
        scene.crop_area = evidence.pixels.area
    except EvidenceError as error:
        scene.lines.append(f"The picture cannot be read: {error}")


def _points(scene: Scene, evidence: Evidence) -> Float64Array | None:
    """LiDAR points (N, 3) around the item, metres of the ego frame."""
    if evidence.points is None:
        return None
    try:
        return decode_points(evidence.points)
    except EvidenceError as error:
        scene.lines.append(f"The LiDAR points cannot be read: {error}")
        return None


def _let_hear(scene: Scene, evidence: Evidence) -> None:
    """Nothing but a WAV file of the form that devices write is given to a browser to play."""
    if evidence.sound is None:
        return
    try:
        decode_sound(evidence.sound)
    except EvidenceError as error:
        scene.lines.append(f"The sound cannot be read: {error}")
    else:
        scene.sound = evidence.sound.encoded


def _lanes(evidence: Evidence) -> dict[str, str]:
    """What was sent, with its size."""
    lanes = {}
    if evidence.maps is not None:
        lanes["feature maps"] = f"{evidence.maps.byte_size} bytes, {len(evidence.maps.layers)} layer(s)"
    if evidence.tokens is not None:
        lanes["fused tokens"] = f"{evidence.tokens.values.shape[0]} of width {evidence.tokens.values.shape[1]}"
    if evidence.pixels is not None:
        lanes["picture"] = f"{len(evidence.pixels.encoded)} bytes of {evidence.pixels.encoding}"
    if evidence.points is not None:
        lanes["LiDAR points"] = f"{evidence.points.count} in {len(evidence.points.encoded)} bytes"
    if evidence.sound is not None:
        lanes["sound"] = f"{len(evidence.sound.encoded)} bytes of {evidence.sound.encoding}"
    return lanes
