"""What a message must keep before it is sent, and before anything in it is used."""

from __future__ import annotations

import math

from fusion.codec.points import MAX_POINTS
from fusion.codec.sound import ENCODING as SOUND_ENCODING
from fusion.codec.sound import SAMPLE_RATES_HZ
from fusion.errors import EvidenceError, FusionError, InputError, ProtocolError
from fusion.types import ItemId, SampleId, SendReason, SymbolCoding
from fusion.wire import limits
from fusion.wire.checks import FieldCheck
from fusion.wire.v1 import perception_pb2 as pb

PIXEL_ENCODINGS = ("jpeg", "png", "webp")
LANES = ("maps", "tokens", "pixels")
REASONS = {
    SendReason.UNCERTAIN: pb.SEND_REASON_UNCERTAIN,
    SendReason.DISAGREEMENT: pb.SEND_REASON_DISAGREEMENT,
    SendReason.NOVEL: pb.SEND_REASON_NOVEL,
    SendReason.ASKED_FOR: pb.SEND_REASON_ASKED_FOR,
    SendReason.AUDIT: pb.SEND_REASON_AUDIT,
    SendReason.SUSPECT: pb.SEND_REASON_SUSPECT,
}
REASON_OF = {number: reason for reason, number in REASONS.items()}
CODINGS = {pb.CODEC_RANS: SymbolCoding.RANS, pb.CODEC_ZSTD: SymbolCoding.ZSTD}
CODEC_OF = {coding: number for number, coding in CODINGS.items()}

_TOLERANCE = 1e-3
_FAR = 1e6


def item_from_proto(message: pb.ItemId, error: type[FusionError] = EvidenceError) -> ItemId:
    """An item id from a message; raises `error` on a malformed one."""
    sample = message.sample
    try:
        return ItemId(SampleId(sample.device, sample.epoch, sample.sequence), message.item)
    except InputError as fault:
        raise error(f"field 'item' is malformed: {fault}") from None


def check_evidence(message: pb.Evidence) -> ItemId:
    """Raise `EvidenceError` unless the message could be decoded safely; returns whose evidence it is."""
    item = item_from_proto(message.item)
    check = FieldCheck(f"evidence of {item}", EvidenceError)
    if message.ByteSize() > limits.MAX_EVIDENCE_BYTES:
        raise EvidenceError(
            f"evidence of {item}: {message.ByteSize()} bytes are over the cap of {limits.MAX_EVIDENCE_BYTES}"
        )
    check.name("task", message.task)
    check.name("profile", message.profile)
    check.number("time_ns", message.time_ns, low=0)
    check.number("value", message.value)
    check.number("image_width", message.image_width, 1, limits.MAX_EXTENT)
    check.number("image_height", message.image_height, 1, limits.MAX_EXTENT)
    check.present("box", there=message.HasField("box"))
    _check_box(check, "box", message.box)
    check.numbers("class_scores", message.class_scores, limits.MAX_NAMES, 0, 1)
    check.numbers("ages_ns", message.ages_ns, limits.MAX_SENSORS, 0, math.inf)
    check.count("models", len(message.models), 0, limits.MAX_MODELS)
    for name, version in message.models.items():
        check.name("models name", name)
        check.name(f"models[{name}]", version, limits.MAX_VERSION)
    check.count("reasons", len(message.reasons), 0, len(REASONS))
    check.unique("reasons", list(message.reasons))
    for reason in message.reasons:
        if reason not in REASON_OF:
            check.fail("reasons", f"has the unknown reason {reason}")
    _check_opinion(check, message.opinion)
    if message.HasField("maps"):
        _check_maps(check, message.maps)
    if message.HasField("tokens"):
        _check_tokens(check, message.tokens)
    if message.HasField("pixels"):
        _check_crop(check, "pixels", message.pixels)
    if message.HasField("points"):
        _check_points(check, "points", message.points)
    if message.HasField("sound"):
        _check_sound(check, "sound", message.sound)
    return item


def _check_box(check: FieldCheck, field: str, box: pb.Box2D) -> None:
    corners = box.x1, box.y1, box.x2, box.y2
    if not all(-limits.MAX_EXTENT <= value <= 2 * limits.MAX_EXTENT for value in corners):
        for name, value in zip(("x1", "y1", "x2", "y2"), corners, strict=True):
            check.number(f"{field}.{name}", value, -limits.MAX_EXTENT, 2 * limits.MAX_EXTENT)
    if box.x2 < box.x1 or box.y2 < box.y1:
        check.fail(field, "has its corners the wrong way round")


def _check_opinion(check: FieldCheck, opinion: pb.DeviceOpinion) -> None:
    check.numbers("opinion.label_scores", opinion.label_scores, limits.MAX_NAMES, 0, 1)
    check.numbers("opinion.condition_scores", opinion.condition_scores, limits.MAX_NAMES, 0, 1)
    check.number("opinion.asked_score", opinion.asked_score, 0, 1)
    box = opinion.box3d
    for name, value in (("x", box.x), ("y", box.y), ("z", box.z), ("yaw", box.yaw)):
        check.number(f"opinion.box3d.{name}", value, -_FAR, _FAR)
    for name, value in (("length", box.length), ("width", box.width), ("height", box.height)):
        check.number(f"opinion.box3d.{name}", value, 0, _FAR)


def _check_maps(check: FieldCheck, maps: pb.GatedMaps) -> None:
    check.count("maps.windows", len(maps.windows), 1, limits.MAX_LEVELS)
    cells = 0
    for window in maps.windows:
        for name, extent in (("x", window.x), ("y", window.y), ("width", window.width), ("height", window.height)):
            check.number(f"maps.windows.{name}", extent, 0, limits.MAX_EXTENT)
        cells += window.width * window.height
    check.number("maps.windows cells", cells, 0, limits.MAX_CELLS)
    if len(maps.gate) != -(-cells // 8):
        check.fail("maps.gate", f"has {len(maps.gate)} bytes for {cells} cells")
    if maps.layers:
        _check_layers(check, maps)
        return
    if maps.step_exponent:
        check.fail("maps.step_exponent", "is set without layers")
    symbols = maps.symbols
    if symbols.dtype != pb.DTYPE_INT8 or symbols.codec != pb.CODEC_RANS or symbols.shape or symbols.scale:
        check.fail("maps.symbols", "is not an int8 tensor coded by rANS, without shape and scale")


def _check_layers(check: FieldCheck, maps: pb.GatedMaps) -> None:
    if maps.HasField("symbols") or maps.crc32:
        check.fail("maps.symbols", "is set beside layers")
    check.count("maps.layers", len(maps.layers), 1, limits.MAX_LAYERS)
    check.number("maps.step_exponent", maps.step_exponent, 0, limits.MAX_STEP_EXPONENT)
    if any(layer.codec not in CODINGS for layer in maps.layers):
        check.fail("maps.layers.codec", "is neither rANS nor zstd")


def _check_tokens(check: FieldCheck, tokens: pb.Tensor) -> None:
    if tokens.dtype != pb.DTYPE_INT8 or tokens.codec != pb.CODEC_RAW:
        check.fail("tokens", "is not a raw int8 tensor")
    check.count("tokens.shape", len(tokens.shape), 2, 2)
    count, width = tokens.shape
    check.number("tokens.shape[0]", count, 1, limits.MAX_TOKENS)
    check.number("tokens.shape[1]", width, 1, limits.MAX_TOKEN_WIDTH)
    if len(tokens.data) != count * width:
        check.fail("tokens.data", f"has {len(tokens.data)} bytes for a shape of {count} x {width}")
    check.number("tokens.scale", tokens.scale, 0)
    if tokens.scale == 0:
        check.fail("tokens.scale", "is missing")


def _check_crop(check: FieldCheck, field: str, crop: pb.PixelCrop) -> None:
    check.count(f"{field}.encoded", len(crop.encoded), 1, limits.MAX_PIXELS_BYTES)
    if crop.encoding not in PIXEL_ENCODINGS:
        check.fail(f"{field}.encoding", f"is {crop.encoding[:16]!r}, not one of {', '.join(PIXEL_ENCODINGS)}")
    check.present(f"{field}.area", there=crop.HasField("area"))
    _check_box(check, f"{field}.area", crop.area)


def _check_points(check: FieldCheck, field: str, points: pb.PointCrop) -> None:
    check.count(field, points.count, 1, MAX_POINTS)
    check.count(f"{field}.encoded", len(points.encoded), 1, limits.MAX_POINTS_BYTES)
    for name, value in (("x", points.origin_x), ("y", points.origin_y), ("z", points.origin_z)):
        check.number(f"{field}.origin_{name}", value, -_FAR, _FAR)
    check.number(f"{field}.step_m", points.step_m, limits.MIN_STEP_M, limits.MAX_STEP_M)


def _check_sound(check: FieldCheck, field: str, sound: pb.SoundClip) -> None:
    check.count(f"{field}.encoded", len(sound.encoded), 1, limits.MAX_SOUND_BYTES)
    if sound.encoding != SOUND_ENCODING:
        check.fail(f"{field}.encoding", f"is {sound.encoding[:16]!r}, not {SOUND_ENCODING}")
    check.number(f"{field}.sample_rate_hz", sound.sample_rate_hz, *SAMPLE_RATES_HZ)
    check.number(f"{field}.start_ns", sound.start_ns)


def check_crop(message: pb.PixelCrop, item: ItemId) -> None:
    """Raise `EvidenceError` naming `item` unless the crop is well formed."""
    _check_crop(FieldCheck(f"pixels of {item}", EvidenceError), "pixels", message)


def check_points(message: pb.PointCrop, item: ItemId) -> None:
    """Raise `EvidenceError` naming `item` unless the points may be decoded."""
    _check_points(FieldCheck(f"points of {item}", EvidenceError), "points", message)


def check_sound(message: pb.SoundClip, item: ItemId) -> None:
    """Raise `EvidenceError` naming `item` unless the sound may be decoded."""
    _check_sound(FieldCheck(f"sound of {item}", EvidenceError), "sound", message)


def check_verdict(message: pb.Verdict) -> ItemId:
    """Raise `ProtocolError` unless every slot is answered by probabilities; returns whose verdict it is."""
    item = item_from_proto(message.item, ProtocolError)
    check = FieldCheck(f"verdict on {item}", ProtocolError)
    check.count("slots", len(message.slots), 1, limits.MAX_SLOTS)
    for name in message.slots:
        answer, field = message.slots[name], f"slots[{name}]"
        check.name("slots name", name)
        probabilities = {option: answer.probabilities[option] for option in answer.probabilities}
        check.numbers(field, probabilities, limits.MAX_NAMES, 0, 1 + _TOLERANCE)
        if answer.option not in probabilities:
            check.fail(field, f"chose {answer.option[: limits.MAX_NAME]!r}, which has no probability")
        if not abs(math.fsum(probabilities.values()) - 1) <= _TOLERANCE:
            check.fail(field, "has probabilities that do not sum to 1")
    check.unique("lanes", list(message.lanes))
    for lane in message.lanes:
        if lane not in LANES:
            check.fail("lanes", f"has the unknown lane {lane[: limits.MAX_NAME]!r}")
    check.name("reviewer", message.reviewer, limits.MAX_VERSION)
    check.name("prompt_sha256", message.prompt_sha256)
    check.count("rationale", len(message.rationale), 0, limits.MAX_TEXT)
    if not message.rationale.isprintable():
        check.fail("rationale", "has characters that are not printable")
    return item
