"""What evidence about an object could save by leaning on the last evidence about the same object.

    replay run RECORDING --task yard --out out/patrol
    python benchmarks/temporal.py out/patrol/ledger.db [--task yard]

For every two evidences in a row about one track, the codes of the earlier one are moved by whole cells with its box and
laid over the later one's. From how well they agree (r squared, a channel) follows what an ideal linear prediction would
save of each code, log2(1 - r^2) / 2 bits, and never more than it costs. That is an upper bound: it knows the
correlation beforehand, and takes a move by whole cells for the best there is.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np

from cloud_node.ledger import open_reader, undamaged
from edge_node.models import model_folder
from fusion.codec import Profile, decode_maps, unpack_gates
from fusion.task import Task
from fusion.types import BoolArray, Evidence, Float64Array
from fusion.wire.convert import parse_evidence


def laid_out(profile: Profile, evidence: Evidence) -> list[tuple[Float64Array, BoolArray]]:
    """Codes (K, h, w) on the whole map and which cells are open, a level."""
    assert evidence.maps is not None
    parts = zip(decode_maps(profile, evidence.maps), unpack_gates(profile, evidence.maps), evidence.maps.windows,
                strict=True)  # fmt: skip
    found = []
    for level, (codes, gate, window) in enumerate(parts):
        size = profile.map_size(level)
        whole, opened = np.zeros((len(codes), *size)), np.zeros(size, np.bool_)
        place = (slice(window.y, window.y + window.height), slice(window.x, window.x + window.width))
        whole[(slice(None), *place)], opened[place] = codes, gate
        found.append((whole, opened))
    return found


def saved_share(profile: Profile, pairs: list[tuple[Evidence, Evidence]]) -> float:
    """The share of the later evidences' code bits that an ideal prediction would save."""
    bits = saved = 0.0
    for level in range(len(profile.levels)):
        before, after = [], []
        for first, second in pairs:
            (codes, opened), (later, open_later) = laid_out(profile, first)[level], laid_out(profile, second)[level]
            stride = profile.levels[level].stride
            dx, dy = ((second.box.x1 + second.box.x2 - first.box.x1 - first.box.x2) / 2 / stride,
                      (second.box.y1 + second.box.y2 - first.box.y1 - first.box.y2) / 2 / stride)  # fmt: skip
            moved = np.roll(codes, (round(dy), round(dx)), (1, 2))
            cells = open_later & np.roll(opened, (round(dy), round(dx)), (0, 1))
            before.append(np.where(cells, moved, 0.0)[:, open_later])
            after.append(later[:, open_later])
        x, y = np.concatenate(before, 1), np.concatenate(after, 1)
        agreed = (x * y).sum(1) ** 2 / np.maximum((x * x).sum(1) * (y * y).sum(1), 1e-9)
        cost = np.maximum(0.5 * np.log2(2 * math.pi * math.e * (y.var(1) + 1 / 12)), 0.05)  # a rounded Gaussian's
        gain = np.minimum(-0.5 * np.log2(np.maximum(1 - agreed, 1e-6)), cost)
        bits += float(cost.sum()) * y.shape[1]
        saved += float(gain.sum()) * y.shape[1]
    return saved / bits


def main() -> None:
    """Read a ledger and say what could be saved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--task", default="yard")
    options = parser.parse_args()
    profile = Profile.load(model_folder(Task.load(options.task), ""))
    tracks: dict[tuple[str, int], list[tuple[Evidence, int]]] = defaultdict(list)
    for outcome in undamaged(open_reader(str(options.ledger)).outcomes(with_evidence=True)):
        if outcome.evidence is not None:
            evidence = parse_evidence(outcome.evidence)
            tracks[evidence.item.sample.device, evidence.track].append((evidence, len(outcome.evidence)))
    pairs = [(first, second) for sent in tracks.values() for (first, _), (second, _) in pairwise(sent)]
    every = sum(size for sent in tracks.values() for _, size in sent)
    maps = sum(second.maps.byte_size for _, second in pairs if second.maps)
    share = saved_share(profile, pairs)
    print(f"{sum(map(len, tracks.values()))} items of {len(tracks)} tracks; {len(pairs)} were sent after another")
    print(f"maps of those: {maps} of {every} bytes; an ideal prediction saves {share:.0%} of them")
    print(f"of all evidence that is {share * maps / every:.1%}")


if __name__ == "__main__":
    main()
