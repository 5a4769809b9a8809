"""The lanes that a device keeps until it is asked for them, as messages and back.

Reading and writing raise `EvidenceError` naming the item and the field. What is coded is not decoded here.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from fusion.errors import EvidenceError
from fusion.types import Box2D, ItemId, KeptLanes, PixelCrop, PointCrop, SoundClip
from fusion.wire.rules import check_crop, check_points, check_sound
from fusion.wire.v1 import perception_pb2 as pb
from fusion.wire.v1 import review_pb2


def crop_to_proto(crop: PixelCrop, item: ItemId) -> pb.PixelCrop:
    """A crop as a message; raises `EvidenceError` naming `item`."""
    message = crop_message(crop)
    check_crop(message, item)
    return message


def crop_from_proto(message: pb.PixelCrop, item: ItemId) -> PixelCrop:
    """A crop from a message; raises `EvidenceError` naming `item`."""
    check_crop(message, item)
    return read_crop(message)


def points_to_proto(points: PointCrop, item: ItemId) -> pb.PointCrop:
    """Points as a message; raises `EvidenceError` naming `item`."""
    message = points_message(points)
    check_points(message, item)
    return message


def points_from_proto(message: pb.PointCrop, item: ItemId) -> PointCrop:
    """Points from a message; raises `EvidenceError` naming `item`."""
    check_points(message, item)
    return read_points(message)


def sound_to_proto(sound: SoundClip, item: ItemId) -> pb.SoundClip:
    """Sound as a message; raises `EvidenceError` naming `item`."""
    message = sound_message(sound)
    check_sound(message, item)
    return message


def sound_from_proto(message: pb.SoundClip, item: ItemId) -> SoundClip:
    """Sound from a message; raises `EvidenceError` naming `item`."""
    check_sound(message, item)
    return read_sound(message)


def serialize_kept(kept: KeptLanes) -> bytes:
    """Lanes as an `Evidence` that has nothing else: put after an item's evidence, its bytes join them to it."""
    return pb.Evidence(
        pixels=crop_message(kept.pixels) if kept.pixels else None,
        points=points_message(kept.points) if kept.points else None,
        sound=sound_message(kept.sound) if kept.sound else None,
    ).SerializeToString(deterministic=True)


def parse_kept(blob: bytes, item: ItemId) -> KeptLanes:
    """Read what `serialize_kept` wrote; raises `EvidenceError` naming `item`."""
    try:
        message = pb.Evidence.FromString(blob)
    except DecodeError:
        raise EvidenceError(f"what was kept of {item}: {len(blob)} bytes are no serialised lanes") from None
    return KeptLanes(
        crop_from_proto(message.pixels, item) if message.HasField("pixels") else None,
        points_from_proto(message.points, item) if message.HasField("points") else None,
        sound_from_proto(message.sound, item) if message.HasField("sound") else None,
    )


def answer_message(kept: KeptLanes, item: ItemId) -> review_pb2.PixelAnswer:
    """A `PixelAnswer` of what there is, but for its item; raises `EvidenceError` naming `item`."""
    return review_pb2.PixelAnswer(
        pixels=crop_to_proto(kept.pixels, item) if kept.pixels else None,
        points=points_to_proto(kept.points, item) if kept.points else None,
        sound=sound_to_proto(kept.sound, item) if kept.sound else None,
    )


def crop_message(crop: PixelCrop) -> pb.PixelCrop:
    """A crop as a message, unchecked."""
    area = pb.Box2D(x1=crop.area.x1, y1=crop.area.y1, x2=crop.area.x2, y2=crop.area.y2)
    return pb.PixelCrop(encoded=crop.encoded, encoding=crop.encoding, area=area)


def points_message(points: PointCrop) -> pb.PointCrop:
    """Points as a message, unchecked."""
    x, y, z = points.origin
    return pb.PointCrop(
        origin_x=x, origin_y=y, origin_z=z, step_m=points.step_m, count=points.count, encoded=points.encoded
    )


def sound_message(sound: SoundClip) -> pb.SoundClip:
    """Sound as a message, unchecked."""
    return pb.SoundClip(
        encoding=sound.encoding, encoded=sound.encoded, sample_rate_hz=sound.sample_rate_hz, start_ns=sound.start_ns
    )


def read_crop(message: pb.PixelCrop) -> PixelCrop:
    """A crop from a checked message."""
    area = message.area
    return PixelCrop(message.encoded, message.encoding, Box2D(area.x1, area.y1, area.x2, area.y2))


def read_points(message: pb.PointCrop) -> PointCrop:
    """Points from a checked message."""
    origin = message.origin_x, message.origin_y, message.origin_z
    return PointCrop(origin, message.step_m, message.count, message.encoded)


def read_sound(message: pb.SoundClip) -> SoundClip:
    """Sound from a checked message."""
    return SoundClip(message.encoding, message.encoded, message.sample_rate_hz, message.start_ns)
