"""The daemon's configuration, `edge.toml`. Every key has a default but `source.path`; units are in the names."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast, get_args

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from edge_node.settings.evidence import EvidenceSettings
from edge_node.settings.live import LiveSensorSettings, OdometrySettings, SupervisedSettings, TriggerSettings
from edge_node.settings.power import PowerSettings
from fusion.config import HostPort, HostPortOrNone, Seconds, Settings, SomeSeconds
from fusion.synchronization import SynchronizerSettings
from fusion.tracing import TraceSettings
from fusion.wire.channel import ClientTls

MIB = 1 << 20
LIVE = "live"


def _speed(value: Any) -> Any:
    """`flat-out` and `realtime` as factors of the recording's own speed."""
    named = {"flat-out": math.inf, "realtime": 1.0}
    if isinstance(value, str):
        if value not in named:
            raise ValueError("give 'flat-out', 'realtime' or a factor of the recording's speed such as 2.0")
        return named[value]
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError("give 'flat-out', 'realtime' or a factor of the recording's speed such as 2.0")
    return float(value)


Speed = Annotated[float, Field(allow_inf_nan=True), BeforeValidator(_speed)]
Share = Annotated[float, Field(ge=0, le=1)]
RateName = Literal["full", "lean", "coarse", "least"]


class EngineSettings(Settings):
    """How the graphs are run, and what of the detector's answer counts.

    `backend` is auto, onnxruntime, openvino, cuda or tensorrt. `cache` is a folder for compiled graphs, empty for none.
    `overlap` lets the detector look at a sample while the one before it is fused and screened: more samples a second
    where the detector leaves cores idle, each a little later. Detections score at least `score_floor`; of one class
    none overlaps a better one by more than `max_iou`, and of any by more than `max_iou_across`. The best
    `max_detections` of a picture count, no more than the fusion model takes.
    """

    backend: str = "auto"
    threads: int = Field(default=2, ge=1, le=64)
    precision: str = "auto"
    cache: str = ""
    overlap: bool = False
    score_floor: Share = 0.05
    max_iou: Share = 0.5
    max_iou_across: Share = 0.7
    max_detections: int = Field(default=32, ge=1, le=1024)

    @property
    def folder(self) -> Path | None:
        """The folder for compiled graphs, None for none."""
        return Path(self.cache) if self.cache else None


class SourceSettings(Settings):
    """Where readings come from: `kind` is a name of the entry-point group `fusion.sources`.

    `live` reads `sensors` and not a `path`, with a `trigger` only those frames of the reference sensor that it asks
    for; its `rig` is a recording of the device whose calibration counts, and `drop_late_s` 0 is half a second. With
    `odometry` the device's own motion is taken out of LiDAR sweeps.
    `split` is for recordings that have splits. `run` names one reading of a recording: the same name goes on
    where it stopped, a new one reads it again under new ids. `drop_late_s` > 0 skips frames (as declared gaps)
    once the pipeline is that far behind a paced recording; 0 lets the recording wait.
    """

    kind: str = "recording"
    path: Path = Field(default=cast("Path", None))
    sensors: tuple[LiveSensorSettings, ...] = ()
    trigger: TriggerSettings | None = None
    odometry: OdometrySettings | None = None
    rig: Path | None = None
    split: str = ""
    pace: Speed = math.inf
    loop: bool = False
    run: str = Field(default="first", min_length=1, max_length=64)
    drop_late_s: Seconds = 0.0

    @property
    def label(self) -> str:
        """What to call it in a message."""
        return "live sensors" if self.kind == LIVE else str(self.path)

    @field_validator("path", mode="before")
    @classmethod
    def _where(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("kind") != LIVE:
            if value is None:
                raise PydanticCustomError("missing", "a recording has a path")
            return value
        if value is not None:
            raise ValueError("live sensors have no path; leave it out, or leave out kind = 'live'")
        return Path()

    @field_validator("trigger", "odometry")
    @classmethod
    def _of_live(cls, value: SupervisedSettings | None, info: ValidationInfo) -> SupervisedSettings | None:
        if value and info.data.get("kind") != LIVE:
            raise ValueError("only for kind = 'live'")
        return value

    @field_validator("loop")
    @classmethod
    def _not_live(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("kind") == LIVE:
            raise ValueError("live sensors cannot be read again; leave it out")
        return value

    @field_validator("pace")
    @classmethod
    def _own_pace(cls, value: float, info: ValidationInfo) -> float:
        if value != math.inf and info.data.get("kind") == LIVE:
            raise ValueError("live sensors have their own pace; leave it out")
        return value

    @field_validator("sensors")
    @classmethod
    def _each_once(cls, value: tuple[LiveSensorSettings, ...], info: ValidationInfo) -> tuple[LiveSensorSettings, ...]:
        live, names = info.data.get("kind") == LIVE, [sensor.name for sensor in value]
        if live != bool(value):
            raise ValueError("give [[source.sensors]] with a name and a url each" if live else "only for kind = 'live'")
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]!r} is given twice")
        return value


class TrackerSettings(Settings):
    """Association of detections over time. `enabled` unset follows the source: off for unrelated still images."""

    enabled: bool | None = None
    min_iou: Share = 0.3
    max_age_s: Seconds = 1.0

    def tracks(self, *, continuous: bool) -> bool:
        """Whether detections are associated over time in a source that is `continuous` or is not."""
        return continuous if self.enabled is None else self.enabled


class ScreeningSettings(Settings):
    """What is sent, and why. Scores and margins are in 0..1.

    An item is uncertain when a head's margin is under `uncertain_below`; suspect when it is a defect with a probability
    above `suspect_above` (1: never), which `calibration`, a file that `edge-node calibrate` wrote, sets; asked for from
    `asked` on; novel when its distance in fused-token space exceeds `novelty`, in units of what one in a hundred
    ordinary items exceeds (0: off; only where the model folder has reference tokens). `disagree_above` is how sure both
    sides must be to disagree. `onset_s` is how long a track must have been seen before any reason but being asked for
    counts. A track's situation is sent once in `repeat_s`; one that is only suspect again is sent anew only when its
    probability has risen by `suspect_rise`. Evidence is sent at `finest_rate`, and at a coarser one the less is left of
    the byte budget, down to `coarsest_rate`; `budget_bytes_per_s` 0 is no budget.
    """

    uncertain_below: Share = 0.5
    suspect_above: Share = 1.0
    suspect_rise: Share = 0.25
    calibration: str = ""
    disagree_above: Share = 0.5
    asked: Share = 0.5
    novelty: float = Field(default=1.0, ge=0)
    audit_rate: Share = 0.01
    seed: int = 0
    onset_s: Seconds = 0.2
    repeat_s: Seconds = 10.0
    finest_rate: RateName = "full"
    coarsest_rate: RateName = "least"
    budget_bytes_per_s: float = Field(default=0.0, ge=0)
    budget_burst_bytes: int = Field(default=65536, ge=1)

    @model_validator(mode="after")
    def _rates_in_order(self) -> Self:
        names = get_args(RateName)
        if names.index(self.coarsest_rate) < names.index(self.finest_rate):
            raise ValueError(f"coarsest_rate: {self.coarsest_rate!r} is finer than finest_rate {self.finest_rate!r}")
        return self


class SpoolSettings(Settings):
    """The durable spool. Caps are enforced long before the disk is full, lowest value first.

    `batch` samples at most share one commit. `history_samples` closed samples are kept for reports; older
    ones are folded into the totals.
    """

    path: Path = Path("spool.db")
    max_bytes: int = Field(default=256 * MIB, ge=4096)
    keep_free_bytes: int = Field(default=64 * MIB, ge=0)
    batch: int = Field(default=8, ge=1, le=1024)
    history_samples: int = Field(default=50_000, ge=1)


class UplinkSettings(Settings):
    """The stream to the review service.

    `deadline_s` 0 is never. `window` submissions may be unanswered. `ack_timeout_s` without an answer to
    the oldest, or `silence_s` without a word, and the stream is opened anew after a jittered pause of at
    most `backoff_max_s`. `pixels` false answers a request for pixels with none. The books and how the device
    is are told at the beginning and every `report_s`.
    """

    address: HostPort = "127.0.0.1:7447"
    tls: ClientTls | None = None
    deadline_s: Seconds = 0.0
    window: int = Field(default=64, ge=1, le=4096)
    pixels: bool = True
    connect_timeout_s: SomeSeconds = 10.0
    ack_timeout_s: SomeSeconds = 120.0
    silence_s: SomeSeconds = 45.0
    ping_s: SomeSeconds = 10.0
    report_s: SomeSeconds = 60.0
    backoff_first_s: SomeSeconds = 0.2
    backoff_max_s: SomeSeconds = 30.0


class MetricsSettings(Settings):
    """Prometheus metrics and `/healthz` over HTTP on `listen` (HOST:PORT, port 0 for any); empty is off.

    The daemon is unhealthy after `stalled_s` without progress.
    """

    listen: HostPortOrNone = ""
    stalled_s: SomeSeconds = 30.0


class DrainSettings(Settings):
    """How long an end may take: `grace_s` after SIGTERM; with `--until-done` `answers_s` without a new answer."""

    grace_s: SomeSeconds = 10.0
    answers_s: SomeSeconds = 60.0


class EdgeSettings(Settings):
    """All of `edge.toml`. `models` is a model folder; empty takes the task's bundled one."""

    device: str = Field(default="edge-1", pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")
    task: str = "yard"
    models: str = ""
    engine: EngineSettings = EngineSettings()
    source: SourceSettings
    synchronizer: SynchronizerSettings = SynchronizerSettings()
    tracker: TrackerSettings = TrackerSettings()
    screening: ScreeningSettings = ScreeningSettings()
    evidence: EvidenceSettings = EvidenceSettings()
    spool: SpoolSettings = SpoolSettings()
    uplink: UplinkSettings = UplinkSettings()
    metrics: MetricsSettings = MetricsSettings()
    power: PowerSettings = PowerSettings()
    trace: TraceSettings = TraceSettings()
    drain: DrainSettings = DrainSettings()
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
