"""Numbers of each sample as JSON topics that can be plotted: latency, bytes, and how items ended so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusion.types import ItemState
from replay.export.parquet.rows import lanes_of
from replay.results.records import ItemResult, SampleResult

LATENCY, BYTES, ITEMS = "/fusion/latency", "/fusion/bytes", "/fusion/items"


def _schema(title: str, of: Mapping[str, str]) -> dict[str, Any]:
    told = {name: {"type": "number", "description": what} for name, what in of.items()}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, "type": "object",
            "properties": told}  # fmt: skip


_LATENCY = _schema(
    "fusion.Latency",
    {
        "edge_ms": "decoded sample to decision, engine calls included",
        "engine_ms": "of which engine calls",
        "commit_ms": "the commit it shared",
        "decode_ms": "reading and decoding",
    },
)
_LATENCY["properties"]["ages_ms"] = {
    "type": "object",
    "description": "by sensor that was there, sample time minus capture time",
    "additionalProperties": {"type": "number"},
}
SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    LATENCY: _LATENCY,
    BYTES: _schema(
        "fusion.Bytes",
        {
            "maps": "bytes of feature maps sent of this sample",
            "tokens": "bytes of fused tokens",
            "pixels": "bytes of pictures that the service asked for",
            "rest": "bytes of ids, boxes and opinions",
            "total": "all bytes sent up to and with this sample",
        },
    ),
    ITEMS: _schema("fusion.Items", {s.value: f"items {s.value} up to and with this sample" for s in ItemState}),
}


@dataclass(slots=True)
class Metrics:
    """Feed it the samples in order; it adds up."""

    total: int = 0
    ended: Counter[ItemState] = field(default_factory=Counter)

    def of(self, sample: SampleResult, items: Sequence[ItemResult]) -> dict[str, dict[str, Any]]:
        """The sample's message for each topic."""
        lanes: Counter[str] = Counter()
        for item in items:
            lanes.update(lanes_of(item))
            self.ended[item.state] += 1
        self.total += lanes.total()
        latency: dict[str, Any] = {
            "edge_ms": sample.edge_ms,
            "engine_ms": sample.engine_ms,
            "commit_ms": sample.commit_ms,
            "decode_ms": sample.decode_ms,
            "ages_ms": dict(sample.ages_ms),
        }
        sent = {lane: lanes[lane] for lane in ("maps", "tokens", "pixels", "rest")}
        return {
            LATENCY: latency,
            BYTES: sent | {"total": self.total},
            ITEMS: {state.value: self.ended[state] for state in ItemState},
        }
