"""What two runs' differences look like they come from.

Facts that the runs tell of themselves go first; the rest is what the pattern is consistent with, which other causes may
make, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from replay.compare.causes import Cause
from replay.compare.lag import lag
from replay.compare.matching import Match, Matching
from replay.compare.patterns import MOVED_M, Pattern
from replay.compare.sides import Side
from replay.results.records import ItemResult

COLLAPSED = 0.1
"""From this share of boxes that are called something else, the detector no longer sees what it did."""
BROADLY = 0.3
"""A change that this share of the items takes part in is everywhere."""
_PLACED_WRONG_M = 0.5
"""3-D boxes that move farther than a device drives in a tenth of a second were put elsewhere."""
_SETTINGS = {
    "uncertain": "edge.screening.uncertain_below",
    "suspect": "edge.screening.suspect_above",
    "novel": "edge.screening.novelty",
    "asked_for": "edge.screening.asked",
    "disagreement": "edge.screening.disagree_above",
}
_AGE_STEP_MS = 20.0
_LIGHTER, _RARELY = 0.05, 0.01


def diagnose(before: Side, after: Side, matching: Matching) -> list[Cause]:
    """What is told first, then what the pattern is consistent with; nothing for runs that are the same."""
    pattern = Pattern.of(matching)
    found = [*_settings(before, after), *_inputs(matching), *_ages(matching)]
    return [*found, *(_from_pattern(pattern, matching) if pattern.pairs else ())]


def _settings(before: Side, after: Side) -> Iterator[Cause]:
    first, second = before.settings, after.settings
    changed = [key for key in sorted({**first, **second}) if first.get(key) != second.get(key)]
    if changed:
        told = "; ".join(
            f"{key}: {first.get(key, 'default')} before, {second.get(key, 'default')} now" for key in changed
        )
        yield Cause("settings", told, certain=True)
    modes = [side.manifest.mode if side.manifest else "" for side in (before, after)]
    if all(modes) and modes[0] != modes[1]:
        yield Cause("mode", f"{modes[0]} before, {modes[1]} now", certain=True)


def _inputs(matching: Matching) -> Iterator[Cause]:
    if other := [one.before.name for one in matching.recordings if not one.same_content]:
        yield Cause("input", _listed(other), certain=True)
    if worse := [one.after.name for one in matching.recordings if one.before.damage != one.after.damage]:
        yield Cause("damage", _listed(worse), certain=True)


def _ages(matching: Matching) -> Iterator[Cause]:
    """Sensors whose readings were older, or missing, in the second run."""
    for one in matching.recordings:
        for sensor, before in one.before.ages_ms.items():
            after = one.after.ages_ms.get(sensor)
            if before is None:
                continue
            if after is None:
                told = f"{sensor} in {one.before.name}: {before:.0f} ms old before, mostly absent now"
                yield Cause("sensor-absent", told, certain=True)
            elif after - before >= _AGE_STEP_MS:
                told = f"{sensor} in {one.before.name}: {before:.0f} ms old before, {after:.0f} ms now (median)"
                yield Cause("sensor-late", told, certain=True)


def _from_pattern(pattern: Pattern, matching: Matching) -> list[Cause]:
    if not pattern.detector_same:
        return _of_detector(pattern, matching)
    if not pattern.device_same:
        return [_of_fusion(pattern)]
    return [cause for rule in _BEHIND_THE_MODELS for cause in rule(pattern)]


def _of_detector(pattern: Pattern, matching: Matching) -> list[Cause]:
    if shifted := [one for one in map(_shifted, matching.recordings) if one]:
        return [shifted[0]]
    step, mean = float(np.median(np.abs(pattern.score_steps))), float(pattern.score_steps.mean())
    told = (
        f"{_percent(pattern.scores_moved)} of the scores moved (half of them by {step:.3f} or more, {mean:+.3f} on "
        f"average), {_percent(pattern.boxes_moved)} of the boxes, {_percent(pattern.labels_changed)} are called "
        f"something else, {_percent(pattern.unmatched)} are new or gone"
    )
    collapsed = pattern.unmatched >= BROADLY and mean < -COLLAPSED
    if pattern.labels_changed >= COLLAPSED or collapsed:
        return [Cause("channels", told)]
    return [Cause("engine" if pattern.scores_moved >= BROADLY else "detector", told)]


def _shifted(one: Match) -> Cause | None:
    found = lag(one)
    if found is None:
        return None
    moment = f"{abs(found.ms):.0f} ms {'before' if found.ms > 0 else 'after'}"
    told = (
        f"in {one.before.name} {_percent(found.share)} of the boxes are exactly those of {moment}, "
        f"{_percent(found.unshifted)} those of their own moment: its pictures are {'late' if found.ms > 0 else 'early'}"
    )
    return Cause("camera-late", told)


def _of_fusion(pattern: Pattern) -> Cause:
    """The detector is as it was, and what all sensors together make of it is not."""
    far = np.linalg.norm(pattern.moved_m, axis=1)
    typical = float(np.median(far)) if len(far) else 0.0
    middle = np.median(pattern.moved_m, axis=0) if len(far) else np.zeros(3)
    told = (
        f"detections are the same; {_percent(pattern.device_changed)} of the fused answers are not, 3-D boxes moved "
        f"by {typical:.2f} m in the middle (x {middle[0]:+.2f}, y {middle[1]:+.2f}, z {middle[2]:+.2f})"
    )
    if typical >= _PLACED_WRONG_M:
        return Cause("calibration", told)
    if typical >= MOVED_M:
        return Cause("sensor-time", told)
    if pattern.device_slots["asked"] or "asked_for" in {*pattern.gained, *pattern.lost}:
        return Cause("sound-time", f"{told}; {pattern.device_slots['asked']} answers to 'asked' changed")
    return Cause("fusion", told)


def _thresholds(pattern: Pattern) -> Iterator[Cause]:
    """The models say the same, and a reason to send only comes, or only goes."""
    for reason in sorted({*pattern.gained} ^ {*pattern.lost}):
        more = reason in pattern.gained
        items = (pattern.gained if more else pattern.lost)[reason]
        told = f"the models say the same; {len(items)} items are {'now' if more else 'no longer'} {reason}"
        if reason == "uncertain":
            told += _margins(items)
        direction = "up" if more == (reason == "uncertain") else "down"
        setting = _SETTINGS.get(reason, f"what makes an item {reason}")
        yield Cause("threshold", f"{told}; {setting} went {direction}")


def _margins(items: Sequence[ItemResult]) -> str:
    told = [item.margin for item in items if item.margin is not None]
    return f", those with a margin from {min(told):.3f} to {max(told):.3f}" if told else ""


def _screening(pattern: Pattern) -> Iterator[Cause]:
    """The same reasons, and other states."""
    if pattern.states_changed and not pattern.gained and not pattern.lost:
        told = ", ".join(f"{n} {a} now {b}" for (a, b), n in pattern.states_changed.most_common(4))
        yield Cause("screening", told)


def _codec(pattern: Pattern) -> Iterator[Cause]:
    if abs(pattern.bytes_ratio - 1) > _LIGHTER:
        yield Cause(
            "codec", f"evidence of the same items weighs {pattern.bytes_ratio:.2f} of what it did, in the middle"
        )


def _reviewer(pattern: Pattern) -> Iterator[Cause]:
    if pattern.probabilities_moved > _RARELY:
        moved = _percent(pattern.probabilities_moved)
        yield Cause(
            "reviewer", f"the device says the same; the reviewer's probabilities moved in {moved} of the reviews"
        )
    elif turned := sum(pair.before.uncertain != pair.after.uncertain for pair in pattern.both_reviewed):
        yield Cause("review-threshold", f"the same probabilities; {turned} verdicts are unsure in only one run")


_BEHIND_THE_MODELS: tuple[Callable[[Pattern], Iterator[Cause]], ...] = (_thresholds, _screening, _codec, _reviewer)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= _RARELY or not share else "under 1 %"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
