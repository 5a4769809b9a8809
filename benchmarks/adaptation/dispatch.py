"""A task that the yard's reviewer was not trained for: who is sent, how dangerous it is, how far, how well in view.

It is asked of the same items, so the evidence is the same; the questions, their answers and the right ones are not.
`crew` and `hazard` are a site's own rules over what a thing is and what is wrong with it, `reach` is its distance, and
`view` how much of it nothing hides: nobody ever asked the reviewer for the last two.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fusion.review.answers import match_truth
from fusion.review.item_cache import ItemCache
from fusion.simulation.scene_set import read_scene
from fusion.task import Slot, Task
from fusion.training.review_sources import YardMoments
from fusion.types import Box2D, TruthObject

SLOTS = (
    Slot(name="crew", question="Who should go?", options=("nobody", "spill-team", "carpenter", "mover", "guard")),
    Slot(name="hazard", question="How dangerous is it?", options=("harmless", "low", "high")),
    Slot(name="reach", question="How far away is it?", options=("near", "middle", "far", "nowhere")),
    Slot(name="view", question="How much of it shows?", options=("all", "part", "nil")),
)
NEAR_M, MIDDLE_M = 6.5, 10.5
WHOLE = 0.95
"""Share of a thing's pixels from which it counts as seen whole."""
_CREWS = {"leaking": "spill-team", "broken": "carpenter", "toppled": "mover", "obstructing": "mover"}
_DANGEROUS = {("drum", "toppled"), ("person", "obstructing"), ("forklift", "obstructing")}


def dispatch_task(yard: Task) -> Task:
    """The yard with other questions."""
    prompt = "A dispatcher plans work in a storage yard. Look at the evidence about one object and answer."
    return yard.model_copy(update={"name": "dispatch", "prompt": prompt, "slots": SLOTS})


def answers(thing: TruthObject | None) -> tuple[int, ...]:
    """The right option of every slot; `thing` is None for an item that is nothing."""
    if thing is None or thing.box3d is None:
        told = ("nobody", "harmless", "nowhere", "nil")
    else:
        metres = float(np.hypot(thing.box3d.x, thing.box3d.y))
        reach = "near" if metres < NEAR_M else "middle" if metres < MIDDLE_M else "far"
        told = (_crew(thing), _hazard(thing), reach, "all" if thing.visibility >= WHOLE else "part")
    return tuple(slot.options.index(option) for slot, option in zip(SLOTS, told, strict=True))


def dispatch_items(items: ItemCache, moments: YardMoments) -> ItemCache:
    """The same items with the right answers of the new task; `moments` are what they were made from."""
    wide, high = items.layout.image_width, items.layout.image_height
    truth = np.zeros((len(items), len(SLOTS)), np.int64)
    for scene in np.unique(items.columns["scene"]):
        objects = read_scene(moments.root, moments.stems[scene]).truth.objects
        candidates = [(each.box2d, each) for each in objects if each.box2d is not None]
        for row in np.flatnonzero(items.columns["scene"] == scene):
            x, y, width, height = (float(value) for value in items.columns["opinion"][row][:4])
            corners = (x - width / 2) * wide, (y - height / 2) * high, (x + width / 2) * wide, (y + height / 2) * high
            truth[row] = answers(match_truth(Box2D(*corners), candidates))
    task = dispatch_task(items.task)
    return ItemCache(task, items.layout, items.profile, items.columns | {"truth": truth})


def yard_items(folder: Path, split: str, seed: int, scenes: int, workers: int) -> tuple[ItemCache, YardMoments]:
    """Items of so many scenes of a split, simulated and seen by the bundled device where `folder` has none yet."""
    from fusion.simulation import Split
    from fusion.simulation.scene_set import write_scene_set
    from fusion.training.bundle import bundle_folder
    from fusion.training.review_items import ItemRecipe, build_item_cache

    yard, root, cache = Task.load("yard"), folder / "scenes", folder / f"items-{split}"
    write_scene_set(root, Split(split), scenes, seed, workers=workers)
    moments = YardMoments.of_split(root, yard, split, absent=0.1 if split == "train" else 0.0)
    build_item_cache(cache, yard, bundle_folder(yard, None), moments, ItemRecipe(), workers=workers)
    return ItemCache.load(cache), moments


def _crew(thing: TruthObject) -> str:
    if thing.condition == "obstructing" and thing.label in ("person", "forklift"):
        return "guard"
    if thing.condition == "dented":
        return "spill-team" if thing.label == "drum" else "carpenter"
    return _CREWS.get(thing.condition or "ok", "nobody")


def _hazard(thing: TruthObject) -> str:
    condition = thing.condition or "ok"
    if condition == "leaking" or (thing.label, condition) in _DANGEROUS:
        return "high"
    return "harmless" if condition == "ok" else "low"
