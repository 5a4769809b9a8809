"""Messages of the wire as they lie in a recording: which message a topic holds, and the lanes that a device kept.

Evidence is recorded as the bytes it would be sent as (`fusion.wire.convert`), what was kept of it as a `PixelAnswer`.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from fusion.errors import EvidenceError
from fusion.types import ItemId, KeptLanes
from fusion.wire.convert import item_to_proto
from fusion.wire.lanes import answer_message, crop_from_proto, points_from_proto, sound_from_proto
from fusion.wire.limits import MAX_MESSAGE_BYTES
from fusion.wire.rules import item_from_proto
from fusion.wire.v1 import perception_pb2, review_pb2

EVIDENCE: Any = perception_pb2.Evidence
KEPT: Any = review_pb2.PixelAnswer
"""Message classes, for their schemas."""


def serialize_answer(item: ItemId, kept: KeptLanes) -> bytes:
    """What the device would answer when it is asked for what it kept of `item`; raises `EvidenceError`."""
    message = answer_message(kept, item)
    message.item.CopyFrom(item_to_proto(item))
    return message.SerializeToString(deterministic=True)


def parse_answer(blob: bytes) -> tuple[ItemId, KeptLanes]:
    """Read what `serialize_answer` wrote; raises `EvidenceError`."""
    if len(blob) > MAX_MESSAGE_BYTES:
        raise EvidenceError(f"what was kept, of {len(blob)} bytes, is over the cap of {MAX_MESSAGE_BYTES}")
    try:
        message = review_pb2.PixelAnswer.FromString(blob)
    except DecodeError:
        raise EvidenceError(f"{len(blob)} bytes are not a serialised PixelAnswer") from None
    item = item_from_proto(message.item, EvidenceError)
    return item, KeptLanes(
        crop_from_proto(message.pixels, item) if message.HasField("pixels") else None,
        points_from_proto(message.points, item) if message.HasField("points") else None,
        sound_from_proto(message.sound, item) if message.HasField("sound") else None,
    )
