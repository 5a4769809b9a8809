"""The edge daemon with its models' answers remembered: `soak.py --remember` runs it as `edge-node`.

From the second lap of a looped recording on, what the detector and the fusion model said of a frame is said again, so
that everything around the models (decoding, synchronizer, tracker, screener, codec, spool, uplink) works several times
as often in an hour as they would let it.
"""

from __future__ import annotations

import sys
from unittest.mock import patch

from edge_node.cli import main
from edge_node.perception import Look, ModelPerception
from fusion.types import Sample

_detect, _fuse = ModelPerception.detect, ModelPerception.fuse
_seen: dict[int, Look] = {}
_fused: dict[int, Look] = {}


def detect(self: ModelPerception, sample: Sample) -> Look:
    """By the sample's place in the recording."""
    key = sample.source_cursor
    if key not in _seen:
        _seen[key] = _detect(self, sample)
    return _seen[key]


def fuse(self: ModelPerception, sample: Sample, look: Look) -> Look:
    """By the sample's place in the recording."""
    key = sample.source_cursor
    if key not in _fused:
        _fused[key] = _fuse(self, sample, look)
    return _fused[key]


if __name__ == "__main__":
    with patch.multiple(ModelPerception, detect=detect, fuse=fuse):
        sys.exit(main())
