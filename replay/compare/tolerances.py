"""What may differ between two runs before it counts: one TOML file, whose defaults are bundled as `tolerances.toml`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from fusion.config import Settings, load_toml
from replay.compare.metrics import NAMES, is_metric

PerThousand = Annotated[float, Field(ge=0, le=1000)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=True)]
"""With `inf` for whatever it is."""
Share = Annotated[float, Field(ge=0, le=1)]
BUNDLED = Path(str(resources.files("replay.compare").joinpath("tolerances.toml")))


class MatchingSettings(Settings):
    """Which items of two runs are the same one.

    Samples at most `within_ms` apart are one moment. Boxes are the same item from `min_iou` on; from `min_iou_track` on
    where their tracks correspond.
    """

    within_ms: NotNegative = 50.0
    min_iou: Share = 0.5
    min_iou_track: Share = 0.1


class ExactTolerance(Settings):
    """A field that is the same or not: `per_thousand` of the matched items may differ. Ignored, it is not looked at."""

    ignore: bool = False
    per_thousand: PerThousand = 0.0


class NumberTolerance(ExactTolerance):
    """A number: it differs when it is off by more than `absolute` and by more than the share `relative` of itself."""

    absolute: NotNegative = 0.0
    relative: NotNegative = 0.0

    def allows(self, before: float, after: float) -> bool:
        """Whether `after` is near enough to `before`."""
        return abs(after - before) <= max(self.absolute, self.relative * abs(before))


class FieldTolerances(Settings):
    """A tolerance for each thing told of an item. Scores, margins and probabilities are in 0..1.

    `box` is the farthest corner in pixels, `box3d` the centre of the device's 3-D box in metres, `probabilities` the
    reviewer's that moved most, `track` a track that goes on as another one. `reasons` are compared without the audit
    lottery, which draws by the item's id. Keys that a field's table leaves out are as here; a field that is given a
    tolerance is looked at, unless the table itself says `ignore`.
    """

    label: ExactTolerance = ExactTolerance()
    score: NumberTolerance = NumberTolerance(absolute=0.001)
    box: NumberTolerance = NumberTolerance(absolute=0.5)
    track: ExactTolerance = ExactTolerance(ignore=True)
    margin: NumberTolerance = NumberTolerance(absolute=0.005)
    box3d: NumberTolerance = NumberTolerance(absolute=0.02)
    state: ExactTolerance = ExactTolerance()
    reasons: ExactTolerance = ExactTolerance()
    verdict: ExactTolerance = ExactTolerance()
    probabilities: NumberTolerance = NumberTolerance(absolute=0.01)
    uncertain: ExactTolerance = ExactTolerance()
    lanes: ExactTolerance = ExactTolerance()
    device: ExactTolerance = ExactTolerance()
    detector: ExactTolerance = ExactTolerance()
    truth: ExactTolerance = ExactTolerance()
    evidence_bytes: NumberTolerance = NumberTolerance(absolute=8, relative=0.01)
    maps_bytes: NumberTolerance = NumberTolerance(absolute=8, relative=0.01)

    @model_validator(mode="before")
    @classmethod
    def _over_defaults(cls, given: Any) -> Any:
        return {name: cls._filled(name, value) for name, value in given.items()} if isinstance(given, dict) else given

    @classmethod
    def _filled(cls, name: str, value: Any) -> Any:
        if name not in cls.model_fields or not isinstance(value, dict):
            return value
        bundled: dict[str, Any] = cls.model_fields[name].default.model_dump()
        return {**bundled, **({"ignore": False} if value else {}), **value}


class PresenceTolerances(Settings):
    """Items that only one run has: how many per thousand of the first run's items may be `new` and `gone`."""

    new: PerThousand = 0.0
    gone: PerThousand = 0.0


class DefectTolerances(Settings):
    """How many true defects may be `newly_missed` and `newly_found`."""

    newly_missed: int = Field(default=0, ge=0)
    newly_found: int = Field(default=0, ge=0)


class MetricTolerances(Settings):
    """When a metric counts as worse: its difference is no chance, and more than `allowed` (by metric, in its own unit).

    Intervals have `confidence` and come from `draws` resamples by track. Whether a difference is no chance is judged
    after correcting for the number of comparisons: `overall` for the metrics of everything, `slices` for those of
    parts. Fewer than `least_units` tracks (defects) are shown and not judged.
    """

    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    draws: int = Field(default=2000, ge=200, le=100_000)
    seed: int = 0
    least_units: int = Field(default=5, ge=2)
    overall: Literal["holm", "benjamini-hochberg"] = "holm"
    slices: Literal["holm", "benjamini-hochberg"] = "benjamini-hochberg"
    ignore: tuple[str, ...] = ()
    allowed: dict[str, NotNegative] = Field(default_factory=dict)

    @field_validator("ignore", "allowed")
    @classmethod
    def _are_metrics(cls, value: Any) -> Any:
        if strange := [name for name in value if not is_metric(name)]:
            raise ValueError(f"no metric {strange[0]!r}; known: {', '.join(NAMES)}, slot_accuracy.SLOT")
        return value


class Tolerances(Settings):
    """All that `replay compare` is told: the file of `--tolerances`. Keys left out have the bundled file's values."""

    matching: MatchingSettings = MatchingSettings()
    items: PresenceTolerances = PresenceTolerances()
    fields: FieldTolerances = FieldTolerances()
    defects: DefectTolerances = DefectTolerances()
    metrics: MetricTolerances = MetricTolerances()

    @classmethod
    def load(cls, path: Path | None) -> Tolerances:
        """Those of a file, the bundled one when there is none. Raises `ConfigError` naming file and line."""
        return load_toml(path or BUNDLED, cls)
