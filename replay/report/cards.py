"""One item as a card: pictures with boxes, what was said, why it was sent, every answer against the truth."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fusion.task import Slot, Task
from fusion.types import Box2D, Box3D, TruthObject
from replay.report.album import Album, Picture, Sweep
from replay.report.wording import reason_words, short_reason
from replay.results.answers import Outcome, answers, outcome, right_slots, standing
from replay.results.frames import FrameView
from replay.results.records import ItemResult

_LEAST_PROBABILITY = 0.02
_MOST_OPTIONS = 4
_LEAST_VISIBLE = 0.1
_CROP_MARGIN = 0.55
_CROP_LEAST = 56.0


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A box on a picture. `kind` is `item`, `other` or `truth`."""

    kind: str
    box: Box2D
    label: str


@dataclass(frozen=True, slots=True)
class GroundBox:
    """A 3-D box from above: corners `x,y x,y …` in metres, right and backwards positive, and where it faces."""

    kind: str
    corners: str
    label: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One option, who chose it, and its probability; None where only the device answered."""

    option: str
    probability: float | None
    chosen: bool
    true: bool
    device: bool
    detector: bool


@dataclass(frozen=True, slots=True)
class SlotView:
    """One question of the verdict. `right` is None without truth."""

    name: str
    question: str
    answer: str
    right: bool | None
    truth: str
    device: str
    detector: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Card:
    """Everything the template shows of one item."""

    item: ItemResult
    rank: int
    anchor: str
    seconds: float
    outcome: Outcome
    right: int
    judged: int
    reasons: tuple[tuple[str, str, str], ...]
    slots: tuple[SlotView, ...]
    said: str
    picture: Picture | None
    crop: Box2D
    boxes: tuple[DrawnBox, ...]
    sweep: Sweep | None
    ground: tuple[GroundBox, ...]


@dataclass(frozen=True, slots=True)
class Deck:
    """What the cards of one recording are made from. `frames` is asked in rising time."""

    task: Task
    recording: str
    first_ns: int
    items_at: Mapping[int, Sequence[ItemResult]]
    frames: Callable[[int], FrameView | None]
    album: Album

    def deal(self, items: Mapping[int, ItemResult]) -> list[Card]:
        """A card for each item by its rank; frames are read once, forward."""
        inturn = sorted(items.items(), key=lambda one: (one[1].time_ns, one[1].id))
        return [self._card(item, rank) for rank, item in inturn]

    def _card(self, item: ItemResult, rank: int) -> Card:
        view = self.frames(item.time_ns)
        right = right_slots(item, standing(item))
        picture = self.album.picture(view, self.recording) if view else None
        return Card(
            item=item,
            rank=rank,
            anchor=anchor(item),
            seconds=(item.time_ns - self.first_ns) / 1e9,
            outcome=outcome(item),
            right=sum(right.values()),
            judged=len(right),
            reasons=tuple((reason, short_reason(reason), reason_words(reason)) for reason in item.reasons),
            slots=tuple(slot_view(slot, item) for slot in self.task.slots),
            said=view.transcript if view else "",
            picture=picture,
            crop=crop(item.box, picture) if picture else item.box,
            boxes=tuple(drawn_boxes(item, self.items_at.get(item.time_ns, ()), view)),
            sweep=self.album.sweep(view, self.recording) if view else None,
            ground=tuple(ground_boxes(item, view)),
        )


def anchor(item: ItemResult) -> str:
    """The page's name of an item's card: recording, sequence, and number within the sample."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", item.recording)
    return f"item-{name}-{item.sequence}-{item.id.rpartition('#')[2] or item.track}"


def slot_view(slot: Slot, item: ItemResult) -> SlotView:
    """One slot as the standing answerer filled it."""
    verdict = item.verdict.get(slot.name)
    device, detector = item.device_answers.get(slot.name, ""), item.detector_answers.get(slot.name, "")
    truth = item.truth_answers.get(slot.name, "")
    answer = answers(item, standing(item)).get(slot.name, "")
    probabilities = verdict.probabilities if verdict else {}
    named = [option for option in (answer, truth, device, detector) if option]
    likely = [option for option, p in probabilities.items() if p >= _LEAST_PROBABILITY]
    likely = sorted(likely, key=lambda option: -probabilities[option])[:_MOST_OPTIONS]
    shown = sorted(dict.fromkeys([*named, *likely]), key=lambda option: -probabilities.get(option, 0.0))
    bars = [
        Bar(option, probabilities.get(option), option == answer, option == truth, option == device, option == detector)
        for option in shown
    ]
    right = answer == truth if truth and answer else None
    return SlotView(slot.name, slot.question, answer, right, truth, device, detector, tuple(bars))


def crop(box: Box2D, picture: Picture) -> Box2D:
    """A square around the item with some surroundings, inside the picture where it fits."""
    side = max(_CROP_LEAST, (1 + 2 * _CROP_MARGIN) * max(box.x2 - box.x1, box.y2 - box.y1))
    side = min(side, float(max(picture.width, picture.height)))
    x, y = (box.x1 + box.x2 - side) / 2, (box.y1 + box.y2 - side) / 2
    x = _inside(x, side, picture.width)
    y = _inside(y, side, picture.height)
    return Box2D(round(x, 1), round(y, 1), round(x + side, 1), round(y + side, 1))


def _inside(start: float, length: float, limit: float) -> float:
    return (limit - length) / 2 if length >= limit else min(max(start, 0.0), limit - length)


def drawn_boxes(item: ItemResult, beside: Sequence[ItemResult], view: FrameView | None) -> list[DrawnBox]:
    """Other detections, true objects that show at all, the item on top."""
    boxes = [DrawnBox("other", one.box, one.label) for one in beside if one.id != item.id]
    truths = view.truth.objects if view and view.truth else ((item.truth,) if item.truth else ())
    seen = [thing for thing in truths if thing.visibility >= _LEAST_VISIBLE]
    boxes += [DrawnBox("truth", thing.box2d, _called(thing)) for thing in seen if thing.box2d]
    return [*boxes, DrawnBox("item", item.box, item.label)]


def ground_boxes(item: ItemResult, view: FrameView | None) -> list[GroundBox]:
    """True objects from above, the item's own last and bold."""
    things = view.truth.objects if view and view.truth else ()
    own = item.truth.track if item.truth else None
    others = [GroundBox("truth", corners(t.box3d), _called(t)) for t in things if t.box3d and t.track != own]
    if item.truth and item.truth.box3d:
        others.append(GroundBox("item", corners(item.truth.box3d), _called(item.truth)))
    return others


def _called(thing: TruthObject) -> str:
    return f"{thing.label}, {thing.condition}" if thing.condition else thing.label


def corners(box: Box3D) -> str:
    """The box's outline from above as SVG points: x to the right is -y of the ego frame, y downwards is -x."""
    c, s = np.cos(box.yaw), np.sin(box.yaw)
    half = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * [box.length / 2, box.width / 2]
    ahead = box.x + half[:, 0] * c - half[:, 1] * s
    left = box.y + half[:, 0] * s + half[:, 1] * c
    return " ".join(f"{-y:.2f},{-x:.2f}" for x, y in zip(ahead, left, strict=True))
