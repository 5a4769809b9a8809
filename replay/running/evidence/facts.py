"""What an evidence file tells beside evidence: rows of the device's spool (`edge_node.spool.schema`) as JSON messages.

A file is not trusted: every value has a type and bounds, and what is not said here is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_node.spool.copying import Row
from fusion.errors import InputError
from fusion.types import MAX_ITEMS_PER_SAMPLE, Availability, ItemState, SendReason
from fusion.wire.limits import MAX_EVIDENCE_BYTES, MAX_NAME, MAX_NAMES, MAX_SENSORS, MAX_TEXT

FORMAT = "1"
MAX_FACT_BYTES = 4 << 20
"""One sample with all of its items."""

_LAST = (1 << 63) - 1
Count = Annotated[int, Field(ge=0, le=_LAST)]
Time = Annotated[int, Field(ge=-_LAST, le=_LAST)]
Size = Annotated[int, Field(ge=0, le=16 * MAX_EVIDENCE_BYTES)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=MAX_NAME)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
JOB_NAME = r"^\.*[A-Za-z0-9_@-][A-Za-z0-9_.@-]*$"
"""Names of recordings in a run: each is a folder in it, and no other."""
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Scores = Annotated[dict[Name, Number], Field(max_length=MAX_NAMES)]
_F = TypeVar("_F", bound="Facts")


class Facts(BaseModel):
    """Base of what is told: frozen, no conversions, nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DetectorScores(Facts):
    """The detector's scores of one item."""

    class_: Scores = Field(alias="class")
    condition: Scores


class Solid(Facts):
    """A box in the ego frame, as `Box3D`."""

    x: Number
    y: Number
    z: Number
    length: Number
    width: Number
    height: Number
    yaw: Number


class Opinion(Facts):
    """What the device's fused heads said; nothing where the task has none."""

    label: Scores = Field(default_factory=dict)
    condition: Scores = Field(default_factory=dict)
    asked: Number | None = None
    box3d: Solid | None = None


class ItemFacts(Facts):
    """An item's row. What waits for a service has the digests of its evidence and of what is kept of it."""

    item: Annotated[int, Field(ge=1, le=MAX_ITEMS_PER_SAMPLE)]
    track: Count
    x1: Number
    y1: Number
    x2: Number
    y2: Number
    label: Name
    score: Number
    scores: DetectorScores
    opinion: Opinion
    reasons: Annotated[tuple[SendReason, ...], Field(max_length=len(SendReason))]
    value: Number
    state: ItemState
    note: Text
    into_item: Annotated[str, Field(max_length=128)] | None
    evidence_bytes: Size
    maps_bytes: Size
    tokens_bytes: Size
    crop_bytes: Size
    decided_ns: Time
    profile: Annotated[str, Field(max_length=128)] = ""
    evidence_sha256: Hash | None = None
    kept_sha256: Hash | None = None


class SampleFacts(Facts):
    """A sample's row with its items, in order. Durations in nanoseconds."""

    sequence: Annotated[int, Field(ge=1, le=_LAST)]
    cursor: Count
    time_ns: Time
    slots: Annotated[dict[Name, tuple[Availability, Time]], Field(max_length=MAX_SENSORS)]
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    dx: Number
    dy: Number
    source_ns: Count
    edge_ns: Count
    engine_ns: Count
    beside_ns: Time
    evidence_ns: Count
    wait_ns: Time
    commit_ns: Count | None
    items: Annotated[tuple[ItemFacts, ...], Field(max_length=MAX_ITEMS_PER_SAMPLE)]


class GapFacts(Facts):
    """A declared gap."""

    first: Count
    last: Count
    count: Count
    reason: Text
    declared_ns: Time


class Head(Facts):
    """Whose evidence it is, and of which recording: its name in the run, where it was read from, and its content."""

    format: Literal["1"] = "1"
    device: Name
    epoch: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    task: Name
    name: Annotated[str, Field(pattern=JOB_NAME, max_length=200)]
    source: Text
    split: Name = ""
    from_s: Number = 0.0
    to_s: Number | None = None
    content_sha256: Annotated[str, Field(max_length=128)]
    continuous: bool = True
    damage: Text = ""


class Books(Facts):
    """What the whole file holds; `sha256` is over all messages in order."""

    samples: Count
    items: Count
    evidence: Count
    gaps: Count
    truths: Count
    sha256: Hash


def parse(kind: type[_F], text: bytes | str) -> _F:
    """A fact from JSON. Raises `InputError` naming the field that is wrong."""
    if len(text) > MAX_FACT_BYTES:
        raise InputError(f"{kind.__name__} of {len(text)} bytes; at most {MAX_FACT_BYTES} are read")
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "its JSON"
        raise InputError(f"{kind.__name__}: {place}: {first['msg']}") from None


def sample_row(facts: SampleFacts) -> Row:
    """The row of table `samples`."""
    return {"run": 1, **facts.model_dump(mode="json", exclude={"items"})}


def item_row(sequence: int, facts: ItemFacts) -> Row:
    """The row of table `items`, JSON columns as values."""
    told = facts.model_dump(
        mode="json", by_alias=True, exclude={"profile", "evidence_sha256", "kept_sha256", "reasons", "opinion"}
    )
    opinion = facts.opinion.model_dump(mode="json", exclude_unset=True)
    return {"sequence": sequence, **told, "opinion": opinion, "reasons": ",".join(facts.reasons), "pixels_sent": 0}


def gap_row(facts: GapFacts) -> Row:
    """The row of table `gaps`."""
    return {"run": 1, **facts.model_dump(mode="json")}


def facts_of(row: Row, kind: type[_F], **told: Any) -> _F:
    """A spool's row as a fact, without the columns that a file does not keep. Raises `InputError`."""
    known = {name: value for name, value in row.items() if name in kind.model_fields}
    try:
        return kind.model_validate(known | told, strict=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InputError(f"{kind.__name__}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
