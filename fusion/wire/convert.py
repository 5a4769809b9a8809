"""Types to protobuf messages and back, strictly.

What is missing, unknown, not finite, of a wrong shape or over a cap is refused with one line that names the field
and the item: `EvidenceError` for evidence, `ProtocolError` for verdicts. The same checks run before sending and after
receiving. Lanes that come only when asked for are in `fusion.wire.lanes`. What is compressed is not decoded here;
`fusion.codec` does that.
"""

from __future__ import annotations

import hashlib

import numpy as np
from google.protobuf.message import DecodeError

from fusion.errors import EvidenceError
from fusion.types import (
    Box2D,
    Box3D,
    CellWindow,
    DeviceOpinion,
    Evidence,
    FusedTokens,
    GatedMaps,
    ItemId,
    MapLayer,
    SlotAnswer,
    Verdict,
)
from fusion.wire import limits
from fusion.wire.lanes import crop_message, points_message, read_crop, read_points, read_sound, sound_message
from fusion.wire.rules import CODEC_OF, CODINGS, REASON_OF, REASONS, check_evidence, check_verdict
from fusion.wire.v1 import perception_pb2 as pb


def serialize_evidence(evidence: Evidence) -> bytes:
    """The bytes a device spools and sends; the same evidence always gives the same bytes."""
    return evidence_to_proto(evidence).SerializeToString(deterministic=True)


def parse_evidence(blob: bytes) -> Evidence:
    """Read what `serialize_evidence` wrote; raises `EvidenceError`."""
    if len(blob) > limits.MAX_EVIDENCE_BYTES:
        raise EvidenceError(f"evidence of {len(blob)} bytes is over the cap of {limits.MAX_EVIDENCE_BYTES}")
    try:
        return evidence_from_proto(pb.Evidence.FromString(blob))
    except DecodeError:
        raise EvidenceError(f"{len(blob)} bytes are not a serialised Evidence") from None


def evidence_digest(blob: bytes) -> str:
    """Hex sha-256 of serialised evidence: what both ledgers keep beside it."""
    return hashlib.sha256(blob).hexdigest()


def item_to_proto(item: ItemId) -> pb.ItemId:
    """An item id as a message."""
    sample = item.sample
    sample_message = pb.SampleId(device=sample.device, epoch=sample.epoch, sequence=sample.sequence)
    return pb.ItemId(sample=sample_message, item=item.item)


def evidence_to_proto(evidence: Evidence) -> pb.Evidence:
    """Evidence as a message; raises `EvidenceError` when it could not be received."""
    try:
        message = _evidence_message(evidence)
    except (ValueError, TypeError) as fault:
        raise EvidenceError(f"evidence of {evidence.item}: cannot be sent: {fault}") from None
    check_evidence(message)
    return message


def evidence_from_proto(message: pb.Evidence) -> Evidence:
    """Evidence from a message; raises `EvidenceError`."""
    item = check_evidence(message)
    opinion = message.opinion
    return Evidence(
        item=item,
        task=message.task,
        time_ns=message.time_ns,
        track=message.track,
        profile=message.profile,
        models=dict(message.models),
        box=_box(message.box),
        image_width=message.image_width,
        image_height=message.image_height,
        class_scores=dict(message.class_scores),
        opinion=DeviceOpinion(
            dict(opinion.label_scores),
            dict(opinion.condition_scores),
            opinion.asked_score if opinion.HasField("asked_score") else None,
            _box3d(opinion.box3d) if opinion.HasField("box3d") else None,
        ),
        reasons=tuple(REASON_OF[reason] for reason in message.reasons),
        value=message.value,
        ages_ns=dict(message.ages_ns),
        maps=_maps(message.maps) if message.HasField("maps") else None,
        tokens=_tokens(message.tokens) if message.HasField("tokens") else None,
        pixels=read_crop(message.pixels) if message.HasField("pixels") else None,
        points=read_points(message.points) if message.HasField("points") else None,
        sound=read_sound(message.sound) if message.HasField("sound") else None,
    )


def verdict_to_proto(verdict: Verdict) -> pb.Verdict:
    """A verdict as a message; raises `ProtocolError`."""
    message = pb.Verdict(
        item=item_to_proto(verdict.item),
        slots={
            name: pb.SlotAnswer(option=answer.option, probabilities=answer.probabilities)
            for name, answer in verdict.slots.items()
        },
        uncertain=verdict.uncertain,
        lanes=verdict.lanes,
        reviewer=verdict.reviewer,
        prompt_sha256=verdict.prompt_sha256,
        rationale=verdict.rationale,
    )
    check_verdict(message)
    return message


def verdict_from_proto(message: pb.Verdict) -> Verdict:
    """A verdict from a message; raises `ProtocolError`."""
    item = check_verdict(message)
    slots = {name: SlotAnswer(a.option, dict(a.probabilities)) for name, a in sorted(message.slots.items())}
    lanes = tuple(message.lanes)
    told = message.reviewer, message.prompt_sha256, message.rationale
    return Verdict(item, slots, message.uncertain, lanes, *told)


def _evidence_message(evidence: Evidence) -> pb.Evidence:
    opinion = evidence.opinion
    return pb.Evidence(
        item=item_to_proto(evidence.item),
        task=evidence.task,
        time_ns=evidence.time_ns,
        track=evidence.track,
        profile=evidence.profile,
        models=evidence.models,
        box=_box_message(evidence.box),
        image_width=evidence.image_width,
        image_height=evidence.image_height,
        class_scores=evidence.class_scores,
        opinion=pb.DeviceOpinion(
            label_scores=opinion.label_scores,
            condition_scores=opinion.condition_scores,
            asked_score=opinion.asked_score,
            box3d=_box3d_message(opinion.box3d) if opinion.box3d else None,
        ),
        reasons=[REASONS[reason] for reason in evidence.reasons],
        value=evidence.value,
        ages_ns=evidence.ages_ns,
        maps=maps_to_proto(evidence.maps) if evidence.maps else None,
        tokens=_tokens_message(evidence.tokens) if evidence.tokens else None,
        pixels=crop_message(evidence.pixels) if evidence.pixels else None,
        points=points_message(evidence.points) if evidence.points else None,
        sound=sound_message(evidence.sound) if evidence.sound else None,
    )


def _box_message(box: Box2D) -> pb.Box2D:
    return pb.Box2D(x1=box.x1, y1=box.y1, x2=box.x2, y2=box.y2)


def _box3d_message(box: Box3D) -> pb.Box3D:
    return pb.Box3D(x=box.x, y=box.y, z=box.z, length=box.length, width=box.width, height=box.height, yaw=box.yaw)


def maps_to_proto(maps: GatedMaps) -> pb.GatedMaps:
    """The `maps` lane as a message; it is checked with the evidence it belongs to."""
    windows = [pb.CellWindow(x=w.x, y=w.y, width=w.width, height=w.height) for w in maps.windows]
    if maps.whole:
        (only,) = maps.layers
        symbols = pb.Tensor(dtype=pb.DTYPE_INT8, codec=pb.CODEC_RANS, data=only.symbols)
        return pb.GatedMaps(windows=windows, gate=maps.gate, symbols=symbols, crc32=only.crc32)
    layers = [pb.MapLayer(symbols=v.symbols, crc32=v.crc32, codec=CODEC_OF[v.coding]) for v in maps.layers]
    return pb.GatedMaps(windows=windows, gate=maps.gate, layers=layers, step_exponent=maps.step_exponent)


def _tokens_message(tokens: FusedTokens) -> pb.Tensor:
    if tokens.values.dtype != np.int8 or tokens.values.ndim != 2:
        raise ValueError(f"tokens are {tokens.values.dtype} {tokens.values.shape}, not int8 (T, D)")
    data = np.ascontiguousarray(tokens.values).tobytes()
    return pb.Tensor(dtype=pb.DTYPE_INT8, shape=tokens.values.shape, scale=tokens.scale, codec=pb.CODEC_RAW, data=data)


def _box(message: pb.Box2D) -> Box2D:
    return Box2D(message.x1, message.y1, message.x2, message.y2)


def _box3d(m: pb.Box3D) -> Box3D:
    return Box3D(m.x, m.y, m.z, m.length, m.width, m.height, m.yaw)


def _maps(message: pb.GatedMaps) -> GatedMaps:
    windows = tuple(CellWindow(w.x, w.y, w.width, w.height) for w in message.windows)
    if not message.layers:
        return GatedMaps(windows, message.gate, (MapLayer(message.symbols.data, message.crc32),), whole=True)
    layers = tuple(MapLayer(v.symbols, v.crc32, CODINGS[v.codec]) for v in message.layers)
    return GatedMaps(windows, message.gate, layers, message.step_exponent)


def _tokens(message: pb.Tensor) -> FusedTokens:
    values = np.frombuffer(message.data, np.int8).reshape(tuple(message.shape))
    return FusedTokens(values, message.scale)
