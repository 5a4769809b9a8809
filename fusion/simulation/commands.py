"""What an operator says, and whom it means. A phrase is only used where it fits exactly one object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fusion.simulation.draws import Draws
from fusion.simulation.observe import clearly_seen
from fusion.types import TruthObject

_VERBS = ("inspect", "check", "look at", "report")
_ENDS = {
    "left": ("the left {}", "the {} on the left"),
    "right": ("the right {}", "the {} on the right"),
    "nearest": ("the nearest {}", "the closest {}"),
    "farthest": ("the farthest {}",),
}
_APART_PIXELS = 25.0
_APART_M = 1.0
_TALK = (
    "the truck is late again",
    "please open the main gate",
    "lunch is ready in the office",
    "turn on the radio",
    "we need more diesel tomorrow",
    "the rain will end soon",
    "call the warehouse at noon",
    "my shift ends at six",
    "who has the keys",
    "thank you and good night",
)


@dataclass(frozen=True, slots=True)
class Sight:
    """An object as a speaker sees it: `across` in pixels from the picture's left edge, `distance` in metres.

    `clear` says whether it shows enough to be spoken of; the others only make a phrase ambiguous.
    """

    track: int
    label: str
    condition: str
    across: float
    distance: float
    clear: bool


@dataclass(frozen=True, slots=True)
class Command:
    """An utterance: its words, intent, and the track it is about, 0 for none. No words: nobody speaks."""

    text: str = ""
    intent: str = "none"
    track: int = 0


def sights(objects: Sequence[TruthObject]) -> list[Sight]:
    """What can be seen of `objects`, even if little."""
    found = []
    for thing in objects:
        box, solid = thing.box2d, thing.box3d
        if box is not None and solid is not None:
            distance = (solid.x**2 + solid.y**2) ** 0.5
            middle = (box.x1 + box.x2) / 2
            found.append(
                Sight(thing.track, thing.label, thing.condition or "ok", middle, distance, clearly_seen(thing))
            )
    return found


def references(seen: Sequence[Sight]) -> list[tuple[str, str, int]]:
    """Every way to name one of `seen` without doubt: the way, the noun phrase, the track."""
    found = []
    for label in sorted({s.label for s in seen}):
        group = [s for s in seen if s.label == label]
        if len(group) == 1:
            found.append(("plain", f"the {label}", group[0].track, group[0].clear))
            continue
        across = sorted(group, key=lambda s: s.across)
        distance = sorted(group, key=lambda s: s.distance)
        ends = {"left": across[:2], "right": across[:-3:-1], "nearest": distance[:2], "farthest": distance[:-3:-1]}
        for way, (first, second) in ends.items():
            gap = (
                abs(first.across - second.across) if way in ("left", "right") else abs(first.distance - second.distance)
            )
            if gap >= (_APART_PIXELS if way in ("left", "right") else _APART_M):
                found += [(way, phrase.format(label), first.track, first.clear) for phrase in _ENDS[way]]
        for condition in ("toppled", "leaking", "broken", "dented"):
            alike = [s for s in group if s.condition == condition]
            if len(alike) == 1:
                found.append(("condition", f"the {condition} {label}", alike[0].track, alike[0].clear))
    return [(way, phrase, track) for way, phrase, track, clear in found if clear]


_WAY_WEIGHTS = {"left": 2.0, "right": 2.0, "nearest": 1.6, "farthest": 1.6, "condition": 0.8, "plain": 0.8}


def draw_command(draws: Draws, options: Sequence[tuple[str, str, int]]) -> Command:
    """Something to say, mostly about one of `options` (see `references`)."""
    kind = draws.weighted({"inspect": 0.76, "stop": 0.08, "count": 0.08, "talk": 0.08})
    if kind == "talk" or (kind == "inspect" and not options):
        return Command(draws.held_choice(_TALK))
    if kind == "stop":
        return Command(draws.weighted({"stop": 1.0, "halt": 1.0, "stop now": 1.0}), "stop")
    if kind == "count":
        label = draws.weighted({"drums": 3.0, "pallets": 1.0, "crates": 2.0, "cones": 1.5})
        return Command(f"count the {label}", "count")
    ways = sorted({way for way, _, _ in options})
    way = draws.weighted({w: _WAY_WEIGHTS[w] for w in ways})
    chosen = [(phrase, track) for w, phrase, track in options if w == way]
    phrase, track = chosen[int(draws.rng.integers(len(chosen)))]
    verb = _VERBS[int(draws.rng.integers(len(_VERBS)))]
    return Command(f"{verb} {phrase}", "inspect", track)
