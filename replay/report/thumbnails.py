"""Small pictures for the sample browser, made in the same pass over a recording as the cards' large ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from replay.report.album import Moment, data_uri, fitted
from replay.results.frames import FrameView

BUDGET = 8_000_000
LARGEST = 60_000
MOST = 600
"""Bytes before base64 of all small pictures together and of one, and how many there are."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture of a frame that was `width` x `height` pixels."""

    width: int
    height: int
    data: str


@dataclass(slots=True)
class Shelf:
    """Collects small pictures of the moments in `wanted`, within a budget of bytes."""

    wanted: frozenset[Moment]
    budget: int = BUDGET
    pictures: dict[Moment, Thumbnail] = field(default_factory=dict)

    def add(self, moment: Moment, view: FrameView | None) -> None:
        """Keep the view's picture, if it has one."""
        if view is None or view.image is None:
            return
        height, width = view.image.pixels.shape[:2]
        encoded, kind = fitted(view.image, min(LARGEST, self.budget // max(1, len(self.wanted))))
        self.pictures[moment] = Thumbnail(width, height, data_uri(encoded, kind))


class Passing:
    """Views of one recording that shelves what it comes by: ask in rising order, and `finish` at the end."""

    def __init__(self, recording: str, frames: Callable[[int], FrameView | None], shelf: Shelf) -> None:
        self._recording, self._frames, self._shelf = recording, frames, shelf
        times: Iterable[int] = (time_ns for name, time_ns in shelf.wanted if name == recording)
        self._ahead = sorted(times, reverse=True)

    def __call__(self, time_ns: int) -> FrameView | None:
        """The view at `time_ns`."""
        self._shelve(time_ns)
        return self._frames(time_ns)

    def finish(self) -> None:
        """Shelve what comes after everything that was asked for."""
        self._shelve(None)

    def _shelve(self, before_ns: int | None) -> None:
        while self._ahead and (before_ns is None or self._ahead[-1] <= before_ns):
            time_ns = self._ahead.pop()
            self._shelf.add((self._recording, time_ns), self._frames(time_ns))
