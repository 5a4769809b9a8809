"""Truth as Foxglove scene entities: a cube for each object, what cannot be drawn as metadata."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from foxglove_schemas_protobuf.Color_pb2 import Color
from foxglove_schemas_protobuf.CubePrimitive_pb2 import CubePrimitive
from foxglove_schemas_protobuf.KeyValuePair_pb2 import KeyValuePair
from foxglove_schemas_protobuf.SceneEntity_pb2 import SceneEntity
from foxglove_schemas_protobuf.SceneEntityDeletion_pb2 import SceneEntityDeletion
from foxglove_schemas_protobuf.SceneUpdate_pb2 import SceneUpdate
from foxglove_schemas_protobuf.TextPrimitive_pb2 import TextPrimitive

from fusion.errors import InputError
from fusion.geometry import rigid, rotation_z
from fusion.recording.native.pose import matrix, pose, vector
from fusion.recording.native.schemas import EGO, stamp, time_of
from fusion.types import Box2D, Box3D, Truth, TruthObject

MOMENT = "moment"
"""The entity that carries what belongs to no object: intent and transcript."""
_COLOURS = ((0.9, 0.3, 0.2), (0.2, 0.6, 0.9), (0.9, 0.7, 0.1), (0.3, 0.8, 0.3), (0.7, 0.4, 0.9), (0.9, 0.5, 0.7))


def truth_message(truth: Truth) -> Any:
    """One moment's truth; a viewer is told to forget the moment before."""
    time = stamp(truth.time_ns)
    moment = SceneEntity(timestamp=time, frame_id=EGO, id=MOMENT, metadata=_pairs(_of_moment(truth)))
    if truth.transcript:
        above = pose(rigid(np.eye(3), np.array([0.0, 0.0, 3.0])))
        moment.texts.append(
            TextPrimitive(pose=above, billboard=True, font_size=0.5, color=_colour("", 1.0), text=truth.transcript)
        )
    entities = [moment]
    for number, thing in enumerate(truth.objects):
        entity = SceneEntity(timestamp=time, frame_id=EGO, id=f"{number}", metadata=_pairs(_of_object(thing)))
        if thing.box3d:
            entity.cubes.append(_cube(thing.box3d, _colour(thing.label, 0.8 if thing.asked_for else 0.4)))
        entities.append(entity)
    return SceneUpdate(
        deletions=[SceneEntityDeletion(timestamp=time, type=SceneEntityDeletion.ALL)],
        entities=entities,
    )


def read_truth(message: Any, log_time_ns: int) -> Truth:
    """The truth a scene update tells, from the entities that carry a label; raises `InputError` naming the entity."""
    objects: list[TruthObject] = []
    time_ns, told = log_time_ns, {}
    for entity in message.entities:
        facts = {pair.key: pair.value for pair in entity.metadata}
        if entity.id == MOMENT:
            time_ns, told = time_of(entity, log_time_ns), facts
        elif "label" in facts:
            try:
                objects.append(_read_object(entity, facts))
            except (ValueError, InputError) as error:
                raise InputError(f"truth entity {entity.id!r}: {error}") from None
    return Truth(time_ns, tuple(objects), told.get("intent"), told.get("transcript", ""))


def _of_moment(truth: Truth) -> dict[str, str]:
    told = {"intent": truth.intent} if truth.intent is not None else {}
    return told | ({"transcript": truth.transcript} if truth.transcript else {})


def _of_object(thing: TruthObject) -> dict[str, str]:
    facts = {"track": str(thing.track), "label": thing.label}
    if thing.condition is not None:
        facts["condition"] = thing.condition
    if thing.action is not None:
        facts["action"] = thing.action
    if thing.box2d:
        box = thing.box2d
        facts["box2d"] = " ".join(repr(float(v)) for v in (box.x1, box.y1, box.x2, box.y2))
    if thing.velocity is not None:
        facts["velocity"] = " ".join(repr(float(v)) for v in thing.velocity)
    return facts | {"asked_for": str(thing.asked_for).lower(), "visibility": repr(float(thing.visibility))}


def _read_object(entity: Any, facts: Mapping[str, str]) -> TruthObject:
    asked = facts.get("asked_for", "false")
    if asked not in {"true", "false"}:
        raise InputError(f"asked_for is {asked!r}, not true or false")
    return TruthObject(
        track=int(facts.get("track", "0")),
        label=facts["label"],
        condition=facts.get("condition"),
        box2d=_read_box2d(facts["box2d"]) if "box2d" in facts else None,
        box3d=_read_cube(entity) if entity.cubes else None,
        asked_for=asked == "true",
        action=facts.get("action"),
        visibility=float(facts.get("visibility", "1")),
        velocity=_read_velocity(facts["velocity"]) if "velocity" in facts else None,
    )


def _read_box2d(text: str) -> Box2D:
    values = [float(word) for word in text.split()]
    if len(values) != 4 or not np.isfinite(values).all():
        raise InputError(f"box2d is {text!r}, not four numbers")
    return Box2D(*values)


def _read_velocity(text: str) -> tuple[float, float]:
    values = [float(word) for word in text.split()]
    if len(values) != 2 or not np.isfinite(values).all():
        raise InputError(f"velocity is {text!r}, not two numbers")
    return values[0], values[1]


def _cube(box: Box3D, colour: Any) -> Any:
    centre = rigid(rotation_z(box.yaw), np.array([box.x, box.y, box.z]))
    return CubePrimitive(pose=pose(centre), size=vector(np.array([box.length, box.width, box.height])), color=colour)


def _read_cube(entity: Any) -> Box3D:
    if entity.frame_id != EGO:
        raise InputError(f"its cube is in the frame {entity.frame_id!r}; truth is read in the frame {EGO!r}")
    cube = entity.cubes[0]
    placed = matrix(cube.pose.position, cube.pose.orientation)
    size = (cube.size.x, cube.size.y, cube.size.z)
    if not np.isfinite(size).all():
        raise InputError("its cube has a size that is not finite")
    yaw = float(np.arctan2(placed[1, 0], placed[0, 0]))
    x, y, z = (float(v) for v in placed[:3, 3])
    return Box3D(x, y, z, *size, yaw)


def _pairs(facts: Mapping[str, str]) -> list[Any]:
    return [KeyValuePair(key=key, value=value) for key, value in facts.items()]


def _colour(label: str, opacity: float) -> Any:
    red, green, blue = _COLOURS[zlib.crc32(label.encode()) % len(_COLOURS)]
    return Color(r=red, g=green, b=blue, a=opacity)
