"""Tracks: which detections of successive frames are the same thing.

Greedy association by intersection over union with boxes carried on at constant velocity, after SORT (Bewley
et al. 2016, arXiv 1602.00763) without its Kalman filter: at 10 Hz and with a reviewer behind it, an exact
state estimate buys nothing. Deterministic: ties go to the older track, then to the earlier detection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_node.config import TrackerSettings
from fusion.types import Box2D, Detection, Float64Array

OTHER_LABEL = 0.7
"""What an overlap is worth when the labels differ: the detector's label may flicker on one object."""
_LEAST = 1e-6
SMOOTHING = 0.5
"""Share of the newest displacement in a track's velocity."""


@dataclass(frozen=True, slots=True)
class TrackView:
    """What screening needs of a track: its id, when it was first seen, and how often."""

    track: int
    onset_ns: int
    hits: int

    def age_ns(self, time_ns: int) -> int:
        """How long it has been seen."""
        return time_ns - self.onset_ns


@dataclass(slots=True)
class _Track:
    id: int
    label: str
    box: Box2D
    velocity: tuple[float, float]
    onset_ns: int
    seen_ns: int
    hits: int = 1

    def predicted(self, time_ns: int) -> Box2D:
        seconds = (time_ns - self.seen_ns) / 1e9
        dx, dy = self.velocity[0] * seconds, self.velocity[1] * seconds
        return Box2D(self.box.x1 + dx, self.box.y1 + dy, self.box.x2 + dx, self.box.y2 + dy)

    def take(self, time_ns: int, detection: Detection) -> None:
        seconds = max((time_ns - self.seen_ns) / 1e9, 1e-6)
        (old_x, old_y), (new_x, new_y) = _centre(self.box), _centre(detection.box)
        share = SMOOTHING if self.hits > 1 else 1.0
        self.velocity = (
            (1 - share) * self.velocity[0] + share * (new_x - old_x) / seconds,
            (1 - share) * self.velocity[1] + share * (new_y - old_y) / seconds,
        )
        self.box, self.label, self.seen_ns = _plain(detection.box), detection.label, time_ns
        self.hits += 1


class Tracker:
    """Give it each frame's detections; it answers with a track a detection. Ids count from 1 and are never reused."""

    def __init__(self, settings: TrackerSettings, *, enabled: bool = True) -> None:
        self.settings = settings
        self.enabled = enabled
        self._tracks: list[_Track] = []
        self._next = 1

    def update(self, time_ns: int, detections: Sequence[Detection]) -> tuple[TrackView, ...]:
        """The track of each detection, in their order; boxes in pixels of one fixed image."""
        horizon = time_ns - round(self.settings.max_age_s * 1e9)
        self._tracks = [t for t in self._tracks if self.enabled and t.seen_ns >= horizon]
        owner = self._associate(time_ns, detections)
        views = []
        for index, detection in enumerate(detections):
            track = owner.get(index)
            if track is None:
                track = _Track(self._next, detection.label, _plain(detection.box), (0.0, 0.0), time_ns, time_ns)
                self._tracks.append(track)
                self._next += 1
            else:
                track.take(time_ns, detection)
            views.append(TrackView(track.id, track.onset_ns, track.hits))
        return tuple(views)

    def held(self) -> frozenset[int]:
        """The tracks that a detection may still be given; all others are over, and their numbers never come again."""
        return frozenset(track.id for track in self._tracks)

    def count_from(self, track: int) -> None:
        """Give no new track a number below `track`."""
        self._next = max(self._next, track)

    def forget(self) -> None:
        """End all tracks: the source was interrupted or its clock set."""
        self._tracks = []

    def _associate(self, time_ns: int, detections: Sequence[Detection]) -> dict[int, _Track]:
        if not self._tracks or not detections:
            return {}
        expected = np.array([_corners(track.predicted(time_ns)) for track in self._tracks])
        overlap = _overlaps(expected, np.array([_corners(detection.box) for detection in detections]))
        pairs = []
        for place, index in np.argwhere(overlap >= max(self.settings.min_iou, _LEAST)).tolist():
            same = detections[index].label == self._tracks[place].label
            pairs.append((-overlap[place, index] * (1.0 if same else OTHER_LABEL), place, index))
        owner: dict[int, _Track] = {}
        taken: set[int] = set()
        for _, place, index in sorted(pairs):
            if place not in taken and index not in owner:
                taken.add(place)
                owner[index] = self._tracks[place]
        return owner

    def snapshot(self) -> dict[str, Any]:
        """The state as JSON values, to be kept in the spool beside the cursor."""
        rows = [
            [t.id, t.label, t.box.x1, t.box.y1, t.box.x2, t.box.y2, *t.velocity, t.onset_ns, t.seen_ns, t.hits]
            for t in self._tracks
        ]
        return {"next": self._next, "tracks": rows}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a `snapshot`, and never back to a number that may have been given since."""
        self._next = max(self._next, int(state["next"]))
        self._tracks = [
            _Track(number, label, Box2D(x1, y1, x2, y2), (vx, vy), onset, seen, hits)
            for number, label, x1, y1, x2, y2, vx, vy, onset, seen, hits in state["tracks"]
        ]


def _centre(box: Box2D) -> tuple[float, float]:
    return (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2


def _plain(box: Box2D) -> Box2D:
    return Box2D(float(box.x1), float(box.y1), float(box.x2), float(box.y2))


def _corners(box: Box2D) -> tuple[float, float, float, float]:
    return box.x1, box.y1, box.x2, box.y2


def _overlaps(first: Float64Array, second: Float64Array) -> Float64Array:
    """Intersection over union of boxes (n, 4) and (m, 4) of corners, (n, m)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=2)  # (n, m)
    areas = [np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None), axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))
