"""The KITTI object metric as its evaluators are built: loops over frames, labels, detections and thresholds.

Stands in for the benchmark's Python evaluator, which needs numba and a CUDA device. That one compiles these loops; here
Python runs them, with scalar arithmetic, so that their time says what the structure costs, not what the compiler saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, hypot, sin
from typing import NamedTuple

from fusion.evaluation.kitti import CLASSES, DIFFICULTIES, METRICS, MIN_OVERLAP, NEUTRAL_FOR, Difficulty
from fusion.evaluation.kitti_labels import KittiObjects

Figures = dict[tuple[str, str, str, str], tuple[float, float]]
"""(R11, R40) in percent by class, difficulty, set of overlaps and metric; 0 where no label counts."""
_COUNTS, _NEUTRAL, _OUT = 0, 1, -1


class Thing(NamedTuple):
    """One label or detection in plain numbers."""

    name: str
    truncated: float
    occluded: float
    alpha: float
    box: list[float]  # x1 y1 x2 y2
    size: list[float]  # height width length
    place: list[float]  # x y z of the bottom face's centre
    turn: float
    score: float


def evaluate(labels: Sequence[KittiObjects], detections: Sequence[KittiObjects]) -> Figures:
    """All 144 figures, one after the other."""
    truth, found = [_things(frame) for frame in labels], [_things(frame) for frame in detections]
    figures: Figures = {}
    for metric in ("bbox", "bev", "3d"):
        overlaps = [[[_overlap(d, g, metric) for g in gs] for d in ds] for gs, ds in zip(truth, found, strict=True)]
        for name in CLASSES:
            for difficulty, level in DIFFICULTIES.items():
                roles = [_roles(gs, ds, name, level) for gs, ds in zip(truth, found, strict=True)]
                for overlap_set in MIN_OVERLAP:
                    least = MIN_OVERLAP["strict" if metric == "bbox" else overlap_set][name]
                    precision, orientation = _curves(truth, found, overlaps, roles, least, in_image=metric == "bbox")
                    figures[name, difficulty, overlap_set, metric] = _average(precision)
                    if metric == "bbox":
                        figures[name, difficulty, overlap_set, METRICS[1]] = _average(orientation)
    return figures


def _things(objects: KittiObjects) -> list[Thing]:
    columns = (
        objects.names,
        objects.truncated,
        objects.occluded,
        objects.alpha,
        objects.image_boxes,
        objects.dimensions,
        objects.locations,
        objects.rotation_y,
        objects.scores,
    )
    return [Thing(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _overlap(a: Thing, b: Thing, metric: str) -> float:
    if metric == "bbox":
        shared = _image_shared(a.box, b.box)
        return shared / (_area(a.box) + _area(b.box) - shared) if shared > 0 else 0.0
    ground = _ground_shared(a, b)
    if metric == "bev":
        return ground / (a.size[1] * a.size[2] + b.size[1] * b.size[2] - ground) if ground > 0 else 0.0
    high = min(a.place[1], b.place[1]) - max(a.place[1] - a.size[0], b.place[1] - b.size[0])
    shared = ground * high
    if ground <= 0 or high <= 0:
        return 0.0
    return shared / (a.size[0] * a.size[1] * a.size[2] + b.size[0] * b.size[1] * b.size[2] - shared)


def _area(box: list[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _image_shared(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def _ground_shared(a: Thing, b: Thing) -> float:
    reach = hypot(a.size[1], a.size[2]) + hypot(b.size[1], b.size[2])
    if 2 * hypot(a.place[0] - b.place[0], a.place[2] - b.place[2]) >= reach:
        return 0.0
    polygon, window = _corners(a), _corners(b)
    for start, end in zip(window, window[1:] + window[:1], strict=True):
        polygon = _clip(polygon, start, end)
    return sum(p[0] * q[1] - q[0] * p[1] for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True)) / 2


def _corners(thing: Thing) -> list[tuple[float, float]]:
    c, s = cos(thing.turn), sin(thing.turn)
    corners = []
    for along, across in ((0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5)):
        x, z = along * thing.size[2], across * thing.size[1]
        corners.append((thing.place[0] + c * x + s * z, thing.place[2] - s * x + c * z))
    return corners


def _clip(
    polygon: list[tuple[float, float]], start: tuple[float, float], end: tuple[float, float]
) -> list[tuple[float, float]]:
    """What lies to the left of the line from `start` to `end` (Sutherland and Hodgman, 1974)."""
    sides = [(end[0] - start[0]) * (p[1] - start[1]) - (end[1] - start[1]) * (p[0] - start[0]) for p in polygon]
    kept = []
    for index, (point, side) in enumerate(zip(polygon, sides, strict=True)):
        before, before_side = polygon[index - 1], sides[index - 1]
        if (side < 0) != (before_side < 0):
            t = before_side / (before_side - side)
            kept.append((before[0] + t * (point[0] - before[0]), before[1] + t * (point[1] - before[1])))
        if side >= 0:
            kept.append(point)
    return kept


Roles = tuple[list[int], list[int], list[list[float]]]


def _roles(truth: list[Thing], found: list[Thing], name: str, level: Difficulty) -> Roles:
    """Part of each label and of each detection, and the boxes of the regions nobody labelled."""
    label_roles = []
    for label in truth:
        hard = label.occluded > level.max_occlusion or label.truncated > level.max_truncation
        hard = hard or label.box[3] - label.box[1] <= level.min_height
        if label.name == name:
            label_roles.append(_NEUTRAL if hard else _COUNTS)
        else:
            label_roles.append(_NEUTRAL if label.name == NEUTRAL_FOR.get(name) else _OUT)
    detection_roles = []
    for detection in found:
        if abs(detection.box[3] - detection.box[1]) < level.min_height:
            detection_roles.append(_NEUTRAL)
        else:
            detection_roles.append(_COUNTS if detection.name == name else _OUT)
    return label_roles, detection_roles, [label.box for label in truth if label.name == "DontCare"]


def _curves(
    truth: list[list[Thing]],
    found: list[list[Thing]],
    overlaps: list[list[list[float]]],
    roles: list[Roles],
    least: float,
    *,
    in_image: bool,
) -> tuple[list[float], list[float]]:
    scores: list[float] = []
    for frame, role in enumerate(roles):
        scores += _scores_of_hits(found[frame], overlaps[frame], role, least)
    thresholds = _thresholds(scores, sum(role[0].count(_COUNTS) for role in roles))
    precision, orientation = [0.0] * 41, [0.0] * 41
    hits, false, similar = [0] * len(thresholds), [0] * len(thresholds), [0.0] * len(thresholds)
    for frame, role in enumerate(roles):
        for index, threshold in enumerate(thresholds):
            h, f, s = _count(truth[frame], found[frame], overlaps[frame], role, least, threshold, in_image=in_image)
            hits[index] += h
            false[index] += f
            similar[index] += s
    for index in range(len(thresholds)):
        whole = hits[index] + false[index]
        precision[index] = hits[index] / whole if whole else 0.0
        orientation[index] = similar[index] / whole if whole else 0.0
    for index in range(len(thresholds)):
        precision[index], orientation[index] = max(precision[index:]), max(orientation[index:])
    return precision, orientation


def _scores_of_hits(found: list[Thing], overlaps: list[list[float]], role: Roles, least: float) -> list[float]:
    label_roles, detection_roles, _ = role
    taken = [False] * len(found)
    scores = []
    for i, label_role in enumerate(label_roles):
        if label_role == _OUT:
            continue
        best, best_score = -1, -1e7
        for j, detection in enumerate(found):
            if detection_roles[j] == _OUT or taken[j]:
                continue
            if overlaps[j][i] > least and detection.score > best_score:
                best, best_score = j, detection.score
        if best >= 0:
            taken[best] = True
            if label_role == _COUNTS and detection_roles[best] == _COUNTS:
                scores.append(best_score)
    return scores


def _thresholds(scores: list[float], labels: int) -> list[float]:
    scores = sorted(scores, reverse=True)
    thresholds, recall = [], 0.0
    for i, score in enumerate(scores):
        left = (i + 1) / labels
        right = (i + 2) / labels if i < len(scores) - 1 else left
        if right - recall < recall - left and i < len(scores) - 1:
            continue
        thresholds.append(score)
        recall += 1 / 40
    return thresholds


def _count(
    truth: list[Thing],
    found: list[Thing],
    overlaps: list[list[float]],
    role: Roles,
    least: float,
    threshold: float,
    *,
    in_image: bool,
) -> tuple[int, int, float]:
    """Hits, false positives and summed orientation similarity of a frame's detections from a score on."""
    label_roles, detection_roles, regions = role
    taken = [False] * len(found)
    hits, similar = 0, 0.0
    for i, label_role in enumerate(label_roles):
        if label_role == _OUT:
            continue
        best = _closest(found, taken, [row[i] for row in overlaps], detection_roles, least, threshold)
        if best >= 0:
            taken[best] = True
            if label_role == _COUNTS and detection_roles[best] == _COUNTS:
                hits += 1
                similar += (1 + cos(truth[i].alpha - found[best].alpha)) / 2
    false = 0
    for j, detection in enumerate(found):
        if not taken[j] and detection_roles[j] == _COUNTS and detection.score >= threshold:
            false += not (in_image and _is_covered(detection.box, regions, least))
    return hits, false, similar


def _closest(
    found: list[Thing], taken: list[bool], overlap: list[float], roles: list[int], least: float, threshold: float
) -> int:
    """The detection that a label takes: the closest that counts, else the first neutral one, else none (-1)."""
    best, best_overlap, best_is_neutral = -1, 0.0, False
    for j, detection in enumerate(found):
        if roles[j] == _OUT or taken[j] or detection.score < threshold or overlap[j] <= least:
            continue
        if roles[j] == _COUNTS and (overlap[j] > best_overlap or best_is_neutral):
            best, best_overlap, best_is_neutral = j, overlap[j], False
        elif roles[j] == _NEUTRAL and best < 0:
            best, best_is_neutral = j, True
    return best


def _is_covered(box: list[float], regions: list[list[float]], least: float) -> bool:
    shares = (_image_shared(box, region) / _area(box) for region in regions if _image_shared(box, region) > 0)
    return any(share > least for share in shares)


def _average(curve: list[float]) -> tuple[float, float]:
    return sum(curve[::4]) / 11 * 100, sum(curve[1:]) / 40 * 100
