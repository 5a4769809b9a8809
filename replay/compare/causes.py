"""Causes of differences by name, in plain words: facts that runs tell of themselves, and what is consistent with."""

from __future__ import annotations

from dataclasses import dataclass

WORDS = {
    "settings": "The runs had different settings.",
    "mode": "The runs were made in different ways.",
    "input": "The recordings are not the same bytes, or not the same stretch.",
    "damage": "Not as much of the recordings could be read.",
    "sensor-absent": "A sensor is missing.",
    "sensor-late": "A sensor came later.",
    "camera-late": "Consistent with a camera whose time is off: what it shows is that of another moment.",
    "channels": "Consistent with other pictures reaching the detector: colour channels in another order (RGB taken "
    "for BGR), or other scaling of pixels. Boxes are still found where things are, and called something "
    "else.",
    "engine": "Consistent with another engine, precision or quantization of the detector (an INT8 engine gone bad),"
    " or with other weights: scores and boxes move a little everywhere, and classes stay.",
    "detector": "The detector sees a part of the items otherwise; nothing says why.",
    "calibration": "Consistent with another calibration: a sensor's mount or a camera's matrix (a sign, an axis, a "
    "mirrored rig). Another fusion model would look like this, too.",
    "sensor-time": "Consistent with one sensor late by a fraction of a second: what fusion puts in space is off by"
    " about what the device moves meanwhile. A calibration off by centimetres, or another precision of the "
    "fusion model, would look like this, too.",
    "sound-time": "Consistent with a microphone that is late or hears otherwise: what was asked for changes, and things"
    " stay where they are.",
    "fusion": "The fused answers of a part of the items change; consistent with one sensor that is late or missing "
    "for a while, or with another precision of the fusion model.",
    "threshold": "Consistent with a threshold that moved.",
    "screening": "Consistent with screening that repeats, waits or budgets otherwise (edge.screening.repeat_s, "
    "onset_s, budget_bytes_per_s), or with a link or service that lost items.",
    "codec": "Consistent with another codec rate or profile (edge.screening.finest_rate).",
    "reviewer": "Consistent with another reviewer, or one that is given other evidence.",
    "review-threshold": "Consistent with the service's own threshold of doubt moved.",
}


@dataclass(frozen=True, slots=True)
class Cause:
    """A likely cause: a name of `WORDS`, and what speaks for it. `certain` where the runs themselves tell it."""

    kind: str
    because: str
    certain: bool = False

    @property
    def words(self) -> str:
        """It, as a sentence."""
        return WORDS[self.kind]
