"""The pictures of what changed, cut out of the recordings that both runs read, as far as those can be reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cv2

from fusion.errors import FusionError
from fusion.types import Box2D, UInt8Array
from replay.compare.changes import Change
from replay.compare.matching import Matching
from replay.compare.sides import Side, content_of
from replay.outputs import openers
from replay.report.album import data_uri
from replay.results.frames import FrameIndex, FrameView
from replay.running.lane import epoch_of

_AROUND, _LEAST_PX, _SHOWN_PX, _QUALITY = 0.6, 72.0, 360, 72


@dataclass(frozen=True, slots=True)
class Cut:
    """A part of a frame: `area` in the frame's pixels, `data` its picture as a data: address."""

    area: Box2D
    data: str


@dataclass(frozen=True, slots=True)
class Cuts:
    """The same place in both runs' recordings, the second only of another recording; None without a picture."""

    before: Cut | None = None
    after: Cut | None = None


@dataclass(slots=True)
class Frames:
    """One run's frames by recording and time. `missing` says of which recordings there are none, and why."""

    side: Side
    missing: dict[str, str] = field(default_factory=dict)
    _opened: dict[str, Callable[[int], FrameView | None] | None] = field(default_factory=dict)

    def at(self, recording: str, time_ns: int) -> UInt8Array | None:
        """The camera's picture (H, W, 3) RGB, None where there is none; ask in rising order of time.

        An empty `recording` is one that this run does not have.
        """
        if not recording:
            return None
        if recording not in self._opened:
            self._opened[recording] = self._open(recording)
        look = self._opened[recording]
        if look is None:
            return None
        try:
            view = look(time_ns)
        except FusionError as error:
            self.missing[recording], self._opened[recording] = str(error), None
            return None
        return view.image.pixels if view and view.image else None

    def _open(self, recording: str) -> Callable[[int], FrameView | None] | None:
        manifest, task = self.side.manifest, self.side.results.task
        jobs = {job.name: job for job in manifest.jobs} if manifest else {}
        told = {one.name: one for one in self.side.results.recordings}
        if recording not in jobs or recording not in told:
            self.missing[recording] = f"{self.side.path} does not say where it lies"
            return None
        job = jobs[recording]
        try:
            reader = openers(task, (job,))[recording]()
            if content_of(told[recording]) not in ("", epoch_of(reader.info().content_sha256, job)):
                self.missing[recording] = f"{job.source} was changed since the run"
                return None
            return FrameIndex(reader, task)
        except FusionError as error:
            self.missing[recording] = str(error)
            return None


@dataclass(frozen=True, slots=True)
class Place:
    """What a recording is called in each run, empty where it is not; `twice` where the runs read another content."""

    before: str
    after: str
    twice: bool = False


def places_of(matching: Matching) -> dict[str, Place]:
    """That of every recording, by its name as in `Change.recording`."""
    both = {
        one.before.name: Place(one.before.name, one.after.name, not one.same_content) for one in matching.recordings
    }
    gone = {one.name: Place(one.name, "") for one in matching.gone}
    return both | gone | {one.name: Place("", one.name) for one in matching.new}


def cuts(changes: Sequence[Change], before: Frames, after: Frames, places: Mapping[str, Place]) -> dict[int, Cuts]:
    """The pictures of each change by its place in `changes`; of another content from both runs."""
    found: dict[int, Cuts] = {}
    inturn = sorted(enumerate(changes), key=lambda one: (one[1].recording, one[1].item.time_ns))
    for number, change in inturn:
        item, place = change.item, places[change.recording]
        other = change.after or item
        area = around([one.box for one in (change.before, change.after) if one])
        first = _cut(before.at(place.before, item.time_ns), area)
        second = None
        if first is None or place.twice:
            second = _cut(after.at(place.after, other.time_ns), area)
        found[number] = Cuts(first, second)
    return found


def around(boxes: Sequence[Box2D]) -> Box2D:
    """A square that holds all `boxes` with some surroundings."""
    x1, y1 = min(box.x1 for box in boxes), min(box.y1 for box in boxes)
    x2, y2 = max(box.x2 for box in boxes), max(box.y2 for box in boxes)
    half = max(_LEAST_PX, (1 + 2 * _AROUND) * max(x2 - x1, y2 - y1)) / 2
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return Box2D(*(round(value, 1) for value in (x - half, y - half, x + half, y + half)))


def _cut(pixels: UInt8Array | None, area: Box2D) -> Cut | None:
    """The part of `area` that lies inside the frame."""
    if pixels is None:
        return None
    height, width = pixels.shape[:2]
    x1, y1 = max(0, int(area.x1)), max(0, int(area.y1))
    x2, y2 = min(width, int(area.x2) + 1), min(height, int(area.y2) + 1)
    if x2 - x1 < 1 or y2 - y1 < 1:
        return None
    part = pixels[y1:y2, x1:x2]
    if (scale := _SHOWN_PX / max(part.shape[:2])) < 1:
        size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(part, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return Cut(Box2D(float(x1), float(y1), float(x2), float(y2)), data_uri(bytes(encoded), "jpeg"))


def missing_words(before: Frames, after: Frames, places: Mapping[str, Place]) -> Iterator[str]:
    """Why there are no pictures of some recordings, a line each; nothing where the other run gave the same ones."""
    for name, place in places.items():
        sides = [("first", before, place.before), ("second", after, place.after)]
        known = [(side, frames.missing.get(its)) for side, frames, its in sides if its]
        lacking = [(side, reason) for side, reason in known if reason]
        if len(lacking) == len(known):
            yield f"No pictures of {name}: {lacking[0][1]}."
        elif place.twice:
            yield from (f"No pictures of {name} in the {side} run: {reason}." for side, reason in lacking)
