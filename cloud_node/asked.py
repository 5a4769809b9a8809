"""What a device gave when it was asked: which of it is kept, and how it joins the evidence that the ledger stores.

Evidence as it was submitted has a digest that tells a repeated submission from another one, so what came later may not
change it. Serialised messages of one type can be joined end to end, so the stored blob is the submitted bytes
followed by the lanes that came. The outcome's header, which the row's digest covers, says under `asked` which lanes
these are, how many bytes were submitted, and the digest of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fusion.codec.points import decode_points
from fusion.codec.sound import decode_sound
from fusion.errors import EvidenceError
from fusion.types import Evidence, KeptLanes
from fusion.wire.convert import evidence_digest
from fusion.wire.lanes import serialize_kept
from fusion.wire.limits import MAX_EVIDENCE_BYTES

HEADER_KEY = "asked"
NOTHING = KeptLanes()


def worth_keeping(evidence: Evidence, submitted: bytes, came: KeptLanes) -> tuple[KeptLanes, list[EvidenceError]]:
    """What of `came` joins `evidence`, and what was wrong with the rest.

    A lane that was submitted already is not replaced. Points and sound must decode; the picture is for the reviewer to
    read. What would take the evidence over its cap is left out: sound first, then points.
    """
    faults: list[EvidenceError] = []
    kept = KeptLanes(
        came.pixels if evidence.pixels is None else None,
        came.points if evidence.points is None else None,
        came.sound if evidence.sound is None else None,
    )
    for lane, decode in (("points", decode_points), ("sound", decode_sound)):
        try:
            if (given := getattr(kept, lane)) is not None:
                decode(given)
        except EvidenceError as fault:
            faults.append(fault)
            kept = replace(kept, **{lane: None})
    for lane in ("sound", "points", "pixels"):
        size = len(submitted) + len(serialize_kept(kept))
        if size > MAX_EVIDENCE_BYTES:
            faults.append(EvidenceError(f"{evidence.item}: {size} bytes of evidence are over the cap; without {lane}"))
            kept = replace(kept, **{lane: None})
    return kept, faults


def joined(submitted: bytes, asked: KeptLanes) -> tuple[bytes, dict[str, Any]]:
    """The blob to store, and what to say of it in the header: nothing when nothing came."""
    lanes = [name for name in KeptLanes.__slots__ if getattr(asked, name) is not None]
    if not lanes:
        return submitted, {}
    blob = submitted + serialize_kept(asked)
    return blob, {HEADER_KEY: {"lanes": lanes, "submitted_bytes": len(submitted), "sha256": evidence_digest(blob)}}


def is_whole(blob: bytes, submitted_sha256: str, header: Mapping[str, Any] | None) -> bool:
    """Whether a stored blob is what was submitted, and what came when it was asked for."""
    told = (header or {}).get(HEADER_KEY)
    if told is None:
        return evidence_digest(blob) == submitted_sha256
    submitted = blob[: told["submitted_bytes"]]
    return evidence_digest(blob) == told["sha256"] and evidence_digest(submitted) == submitted_sha256
