"""What answers about yard scenes are worth: mAP by centre distance, conditions, the object asked for; paired intervals.

A detection is a query's best class. It hits a clearly seen object of its class whose centre, seen from above, is
nearer than a threshold (nuScenes' rule, Caesar et al., 2020); what lies on an object that is hardly seen counts for
nothing. A condition is right when the object was found, by whatever class, within a metre and told rightly: what is
missed is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fusion.evaluation.matching import match_in_order, pairs_within_groups
from subsets.rivals import Answers

DISTANCES_M = (0.5, 1.0, 2.0)
FOUND_M = 1.0
_LEAST_SCORE = 0.05
DRAWS = 400


@dataclass(slots=True, eq=False)
class Log:
    """Detections, truth and what became of it, scene by scene: arrays with one row a detection or object."""

    parts: dict[str, list[NDArray[np.generic]]]

    def add(self, first_scene: int, answers: Answers, batch: dict[str, Tensor]) -> None:
        """Answers about scenes `first_scene` and following."""
        label = answers.label.cpu().numpy()
        best = label[..., :-1].argmax(-1)
        score = label[..., :-1].max(-1)
        row, query = np.nonzero(score >= _LEAST_SCORE)
        asked_for = batch["asked"].cpu().numpy()
        intent = answers.intent.argmax(-1).cpu().numpy() == batch["intent"].cpu().numpy()
        truth_row, index = np.nonzero(batch["truth_has_box3d"].cpu().numpy())
        found = {
            "scene": row + first_scene,
            "class": best[row, query],
            "score": score[row, query],
            "centre": answers.centre.cpu().numpy()[row, query],
            "condition": answers.condition.cpu().numpy()[row, query].argmax(-1),
            "asked": (answers.asked.cpu().numpy() * (score > 0.2))[row, query],
            "truth_scene": truth_row + first_scene,
            "truth_class": batch["truth_label"].cpu().numpy()[truth_row, index],
            "truth_centre": batch["truth_box3d"].cpu().numpy()[truth_row, index, :2],
            "truth_condition": batch["truth_condition"].cpu().numpy()[truth_row, index],
            "truth_clear": batch["truth_clear"].cpu().numpy()[truth_row, index],
            "truth_asked": index == asked_for[truth_row],
            "intent": intent,
        }
        for name, values in found.items():
            self.parts.setdefault(name, []).append(values)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All rows."""
        return {name: np.concatenate(values) for name, values in self.parts.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """Of one run on one case, ready to be resampled by scene: see `figures`."""

    scenes: int
    classes: tuple[tuple[NDArray[np.float64], ...], ...]
    objects: NDArray[np.float64]
    condition: NDArray[np.float64]
    asked: NDArray[np.float64]
    intent: NDArray[np.float64]

    def values(self, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Every figure for `weights` (R, scenes), how often a resample holds a scene: (R,) each."""
        known = np.einsum("rs,skc->rkc", weights, self.condition)
        recall = known[..., 0] / np.maximum(known[..., 1], 1e-9)
        counted = known[..., 1].sum(0) > 0
        result = {"mAP": self._map(weights), "condition": known[..., 0].sum(1) / known[..., 1].sum(1)}
        result["condition balanced"] = recall[:, counted].mean(1)
        for index in np.flatnonzero(counted):
            result[f"condition {index}"] = recall[:, index]
        for name, table in (("asked", self.asked), ("intent", self.intent)):
            total = weights @ table
            result[name] = total[:, 0] / np.maximum(total[:, 1], 1e-9)
        return result

    def _map(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        each = []
        for index, thresholds in enumerate(self.classes):
            positives = weights @ self.objects[:, index]
            for hits, scene in thresholds:
                each.append(_average_precision(weights[:, scene.astype(np.int64)], hits, positives))
        return np.mean(each, axis=0)


def _average_precision(
    weights: NDArray[np.float64], hits: NDArray[np.float64], positives: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Area under the precision envelope (R,); `hits` (n,) of 0 and 1 by falling score, `weights` (R, n)."""
    true = np.cumsum(weights * hits, 1)
    every = np.cumsum(weights, 1)
    precision = true / np.maximum(every, 1e-9)
    envelope = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    gained = weights * hits / np.maximum(positives, 1e-9)[:, None]
    return np.asarray((envelope * gained).sum(1))


def figures(rows: dict[str, NDArray[np.generic]], scenes: int, classes: int, conditions: int) -> Figures:
    """What `Log.arrays` gathered, matched with the truth."""
    order = np.argsort(-rows["score"], kind="stable")
    found = {name: rows[name][order] for name in ("scene", "class", "centre", "condition", "asked")}
    truth = {name.removeprefix("truth_"): rows[name] for name in rows if name.startswith("truth_")}
    clear = truth["clear"].astype(np.bool_)
    return Figures(
        scenes,
        tuple(_of_class(found, truth, clear, index) for index in range(classes)),
        _table(truth["scene"][clear], truth["class"][clear], scenes, classes),
        _conditions(found, truth, clear, scenes, conditions),
        _asked(found, truth, scenes),
        np.stack([rows["intent"].astype(np.float64), np.ones(scenes)], 1),
    )


def _of_class(
    found: dict[str, NDArray[np.generic]], truth: dict[str, NDArray[np.generic]], clear: NDArray[np.bool_], index: int
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]:
    """For each distance: hits by falling score, and their scenes; detections that count for nothing are left out."""
    mine, own = found["class"] == index, truth["class"] == index
    scene, centre = found["scene"][mine], found["centre"][mine]
    taken, left, right = _matched(scene, centre, truth["scene"][own], truth["centre"][own], DISTANCES_M)
    seen = clear[own]
    result = []
    for column in range(len(DISTANCES_M)):
        hit, ignored = np.zeros(len(scene)), np.zeros(len(scene), np.bool_)
        chosen = taken[:, column]
        hit[left[chosen & seen[right]]] = 1
        ignored[left[chosen & ~seen[right]]] = True
        result.append((hit[~ignored], scene[~ignored].astype(np.float64)))
    return tuple(result)


def _matched(
    scene: NDArray[np.generic],
    centre: NDArray[np.generic],
    truth_scene: NDArray[np.generic],
    truth_centre: NDArray[np.generic],
    distances: Sequence[float],
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    left, right = pairs_within_groups(scene.astype(np.int64), truth_scene.astype(np.int64))
    gap = np.linalg.norm(centre[left] - truth_centre[right], axis=1)
    near = gap < max(distances)
    left, right, gap = left[near], right[near], gap[near]
    order = np.lexsort((gap, left))
    left, right, gap = left[order], right[order], gap[order]
    return match_in_order(left, right, gap[:, None] < np.array(distances)), left, right


def _conditions(
    found: dict[str, NDArray[np.generic]],
    truth: dict[str, NDArray[np.generic]],
    clear: NDArray[np.bool_],
    scenes: int,
    conditions: int,
) -> NDArray[np.float64]:
    """(scenes, conditions, 2): how many objects in that condition were told rightly, and how many there are."""
    taken, left, right = _matched(found["scene"], found["centre"], truth["scene"], truth["centre"], (FOUND_M,))
    told = np.full(len(clear), -1)
    told[right[taken[:, 0]]] = found["condition"][left[taken[:, 0]]]
    known = clear & (truth["condition"] >= 0)
    right_ones = known & (told == truth["condition"])
    return np.stack(
        [_table(truth["scene"][m], truth["condition"][m], scenes, conditions) for m in (right_ones, known)], -1
    )


def _asked(
    found: dict[str, NDArray[np.generic]], truth: dict[str, NDArray[np.generic]], scenes: int
) -> NDArray[np.float64]:
    """(scenes, 2): whether the likeliest detection lies on the object asked for, and whether one was."""
    result = np.zeros((scenes, 2))
    asked = truth["asked"].astype(np.bool_)
    result[truth["scene"][asked].astype(np.int64), 1] = 1
    place = np.full((scenes, 2), np.inf)
    place[truth["scene"][asked].astype(np.int64)] = truth["centre"][asked]
    best = np.lexsort((-found["asked"], found["scene"]))
    scene = found["scene"][best]
    first = best[np.unique(scene, return_index=True)[1]]
    where = found["scene"][first].astype(np.int64)
    with np.errstate(invalid="ignore"):
        hit = np.linalg.norm(found["centre"][first] - place[where], axis=1) < FOUND_M
    result[where, 0] = hit & (result[where, 1] > 0)
    return result


def _table(scene: NDArray[np.generic], column: NDArray[np.generic], scenes: int, columns: int) -> NDArray[np.float64]:
    flat = scene.astype(np.int64) * columns + column.astype(np.int64)
    return np.bincount(flat, minlength=scenes * columns).reshape(scenes, columns).astype(np.float64)


def resamples(scenes: int, draws: int = DRAWS, seed: int = 0) -> NDArray[np.float64]:
    """(draws + 1, scenes): how often each scene is drawn; the first row holds every scene once."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(scenes, np.full(scenes, 1 / scenes), size=draws)
    return np.concatenate([np.ones((1, scenes)), drawn]).astype(np.float32)
