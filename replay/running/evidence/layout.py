"""How an evidence file is laid out.

An MCAP in zstd chunks with every checksum on. The metadata record `fusion-evidence` holds `facts.Head` as JSON under
`head`, `fusion-evidence-books` at the end `facts.Books` under `books`. Topics, all in the order of the samples:

    /samples    facts.SampleFacts, a sample with all of its items (JSON)
    /evidence   fusion.wire.v1.Evidence, the bytes a device would send, after the sample of each item that waits
    /kept       fusion.wire.v1.PixelAnswer, what the device would answer when it is asked, after the item's evidence
    /gaps       facts.GapFacts, after the samples (JSON)
    /truth      foxglove.SceneUpdate, what was true, between the samples, where the recording tells it

so the file can be read in one pass, and a viewer such as Foxglove shows what is in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from foxglove_schemas_protobuf.SceneUpdate_pb2 import SceneUpdate

from fusion.recording.native.schemas import TRUTH_TOPIC, descriptor_set
from fusion.wire.recorded import EVIDENCE, KEPT
from replay.running.evidence.facts import GapFacts, SampleFacts

NAME = "evidence.mcap"
METADATA = "fusion-evidence"
BOOKS_METADATA = "fusion-evidence-books"
SAMPLES, EVIDENCE_TOPIC, KEPT_TOPIC, GAPS, TRUTH = "/samples", "/evidence", "/kept", "/gaps", TRUTH_TOPIC


@dataclass(frozen=True, slots=True)
class Layout:
    """A topic's schema: its name, and what its messages are made of."""

    name: str
    encoding: str
    schema_encoding: str
    schema: bytes


def _protobuf(kind: Any) -> Layout:
    return Layout(kind.DESCRIPTOR.full_name, "protobuf", "protobuf", descriptor_set(kind))


def _json(kind: type[SampleFacts] | type[GapFacts]) -> Layout:
    schema = json.dumps(kind.model_json_schema(), sort_keys=True).encode()
    return Layout(f"fusion.{kind.__name__}", "json", "jsonschema", schema)


@cache
def topics() -> Mapping[str, Layout]:
    """Every topic a file may have."""
    return {
        SAMPLES: _json(SampleFacts),
        EVIDENCE_TOPIC: _protobuf(EVIDENCE),
        KEPT_TOPIC: _protobuf(KEPT),
        GAPS: _json(GapFacts),
        TRUTH: _protobuf(SceneUpdate),
    }


@dataclass(slots=True)
class Tally:
    """What went through so far, for the books at the end."""

    samples: int = 0
    items: int = 0
    evidence: int = 0
    gaps: int = 0
    truths: int = 0
    _hash: Any = field(default_factory=hashlib.sha256)

    def message(self, topic: str, time_ns: int, data: bytes | memoryview) -> None:
        """Count one message in."""
        self._hash.update(f"{topic} {time_ns} {len(data)}\n".encode())
        self._hash.update(data)

    @property
    def sha256(self) -> str:
        """Over all messages so far."""
        return str(self._hash.hexdigest())
