"""`world.KEY=VALUE`: what surrounds the nodes in a what-if run. All of it left out is the recording as it was.

It has a `seed` of everything that is drawn, and four parts: `sensors.NAME` removed, late, noisy or miscalibrated
(`SensorFault`), the `link` to the service (`LinkSettings`), the service's own speed and outages in `cloud`
(`ServiceSettings`), and what the device draws in `power`, for the budget in `edge.power` (`DrawSettings`).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from edge_node.config import EdgeSettings, Share
from fusion.config import Settings
from fusion.errors import ConfigError
from fusion.synchronization import Synchronizer
from fusion.task import Task
from fusion.types import Modality

Vector = tuple[float, float, float]
Stretch = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(gt=0)]]
SHORTEST_S = 0.001
"""Between outages that come again and again."""
NOWHERE: Vector = (0.0, 0.0, 0.0)


class SensorFault(Settings):
    """What is wrong with one sensor.

    Any sensor: `removed`; `late_ms` its readings arrive later than recorded, with their own stamps; `clock_ms` its
    stamps are ahead of the others' (negative: behind); `drop` share of its readings that are lost.
    Camera: `noise` Gaussian, sigma in 8-bit levels; `blur_px` Gaussian, sigma in pixels; `exposure` factor of the
    levels; `swapped` red and blue exchanged.
    LiDAR: `range_noise_m` Gaussian along the ray, sigma in metres; `drop_points` share of points that are lost.
    Microphone: `snr_db` white noise, so far below speech at its nominal level of -26 dB of full scale.
    Camera and LiDAR: the calibration that the device is given is off by `turned_deg` (roll, pitch, yaw about the ego
    frame's x, y, z, at the sensor's place) and `moved_m` (along them).
    """

    removed: bool = False
    late_ms: float = Field(default=0.0, ge=0)
    clock_ms: float = 0.0
    drop: Share = 0.0
    noise: float = Field(default=0.0, ge=0)
    blur_px: float = Field(default=0.0, ge=0)
    exposure: float = Field(default=1.0, gt=0)
    swapped: bool = False
    range_noise_m: float = Field(default=0.0, ge=0)
    drop_points: Share = 0.0
    snr_db: float | None = None
    turned_deg: Vector = NOWHERE
    moved_m: Vector = NOWHERE

    @property
    def miscalibrated(self) -> bool:
        """Whether the device's calibration of it is off."""
        return self.turned_deg != NOWHERE or self.moved_m != NOWHERE


class OutageSettings(Settings):
    """When something does not work, in seconds of the recording: `outages` are [from, to] each; and, with `every_s`,
    the last `for_s` of each so many seconds.
    """

    outages: tuple[Stretch, ...] = ()
    every_s: float = Field(default=0.0, ge=0)
    for_s: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _end(self) -> OutageSettings:
        for begin, end in self.outages:
            if not begin < end:
                raise ValueError(f"outages: [{begin:g}, {end:g}] ends before it begins; give [from, to] in seconds")
        if bool(self.every_s) != bool(self.for_s) or self.for_s > self.every_s or self.for_s == self.every_s > 0:
            raise ValueError("every_s and for_s belong together, and for_s is the shorter")
        if self.every_s and self.every_s - self.for_s < SHORTEST_S:
            raise ValueError(f"every_s and for_s leave less than {SHORTEST_S:g} s between outages")
        return self

    @property
    def has_outages(self) -> bool:
        """Whether there are any."""
        return bool(self.outages or self.every_s)


class LinkSettings(OutageSettings):
    """The link from the device up to the service; what comes back down has the same outages and latency.

    `bytes_per_s` upwards, counted as messages with their frames; or `share` of the mean that the device sent on the
    same recording over a link without a limit, which is run first. `latency_ms` one way. With `budget` the device knows
    the rate: it becomes `edge.screening.budget_bytes_per_s`, with a burst of `BURST_S` seconds, unless those are set.
    What has no answer `after_s` after the recording's end is expired; unset waits for all of it.
    """

    bytes_per_s: float | None = Field(default=None, gt=0)
    share: float | None = Field(default=None, gt=0)
    latency_ms: float = Field(default=0.0, ge=0)
    budget: bool = False
    after_s: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _one_rate(self) -> LinkSettings:
        if self.bytes_per_s and self.share:
            raise ValueError("set either bytes_per_s or share")
        if self.budget and not (self.bytes_per_s or self.share):
            raise ValueError("budget needs bytes_per_s or share")
        return self


class ServiceSettings(OutageSettings):
    """The service's speed: `reviews_per_s`, or `batch_ms` a batch and `item_ms` for each item in it; unset it takes no
    time. In an outage its streams are cut and none is taken.
    """

    reviews_per_s: float | None = Field(default=None, gt=0)
    batch_ms: float = Field(default=0.0, ge=0)
    item_ms: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _one_speed(self) -> ServiceSettings:
        if self.reviews_per_s and (self.batch_ms or self.item_ms):
            raise ValueError("set either reviews_per_s, or batch_ms and item_ms")
        return self

    def batch_s(self, items: int) -> float:
        """Seconds that a batch of so many takes."""
        if self.reviews_per_s:
            return items / self.reviews_per_s
        return (self.batch_ms + self.item_ms * items) / 1e3


class DrawSettings(Settings):
    """What the device draws: `idle_w` watts always, and `joules_per_sample`, one figure or one for each gear."""

    idle_w: float = Field(default=0.0, ge=0)
    joules_per_sample: float | tuple[float, ...] = 0.0

    def joules(self, gear: int) -> float:
        """What a sample costs in `gear`, 0 the highest."""
        each = self.joules_per_sample
        return each[gear] if isinstance(each, tuple) else each


class WorldSettings(Settings):
    """The world around the nodes."""

    seed: int = Field(default=0, ge=0)
    sensors: dict[str, SensorFault] = Field(default_factory=dict)
    link: LinkSettings = LinkSettings()
    cloud: ServiceSettings = ServiceSettings()
    power: DrawSettings = DrawSettings()

    @property
    def in_time(self) -> bool:
        """Whether it matters when what is sent arrives."""
        return self.link != LinkSettings() or self.cloud != ServiceSettings()

    @property
    def draws(self) -> bool:
        """Whether it is known what the device draws."""
        return self.power != DrawSettings()


_OF_MODALITY = {
    Modality.CAMERA: frozenset({"noise", "blur_px", "exposure", "swapped", "turned_deg", "moved_m"}),
    Modality.LIDAR: frozenset({"range_noise_m", "drop_points", "turned_deg", "moved_m"}),
    Modality.SPEECH: frozenset({"snr_db"}),
}
_OF_ANY = frozenset({"removed", "late_ms", "clock_ms", "drop"})


def check_world(world: WorldSettings, task: Task, edge: EdgeSettings) -> None:
    """Raise `ConfigError` for what does not fit the task's sensors or the device's settings."""
    for name, fault in world.sensors.items():
        if name not in task.sensors:
            known = ", ".join(task.sensors)
            raise ConfigError(f"world.sensors.{name}: task {task.name} has no such sensor; it has {known}")
        modality = task.sensors[name].modality
        changed = {key for key in SensorFault.model_fields if getattr(fault, key) != getattr(SensorFault(), key)}
        if wrong := sorted(changed - _OF_ANY - _OF_MODALITY[modality]):
            raise ConfigError(f"world.sensors.{name}.{wrong[0]}: not of a sensor of modality {modality}")
    _check_reference(world, Synchronizer.of_task(task, edge.synchronizer).reference)
    _check_power(world, edge)


def _check_reference(world: WorldSettings, reference: str) -> None:
    fault = world.sensors.get(reference, SensorFault())
    if fault.removed:
        raise ConfigError(
            f"world.sensors.{reference}.removed: its frames make the samples; set edge.synchronizer.reference first"
        )
    if fault.clock_ms:
        raise ConfigError(
            f"world.sensors.{reference}.clock_ms: its stamps are the samples' time, and the truth's; give the others "
            f"{-fault.clock_ms:g} ms"
        )


def _check_power(world: WorldSettings, edge: EdgeSettings) -> None:
    power, each = edge.power, world.power.joules_per_sample
    if power.limit_c:
        raise ConfigError("edge.power.limit_c: a recording tells no temperature; leave it out")
    if not world.draws:
        if power.budget_watts:
            raise ConfigError("edge.power.budget_watts: a recording draws no power; give world.power.joules_per_sample")
        return
    if any(gear.models for gear in power.gears):
        raise ConfigError("edge.power.gears: gears with other models are not replayed; give them rate_hz alone")
    if isinstance(each, tuple) and len(each) != max(1, len(power.gears)):
        raise ConfigError(
            f"world.power.joules_per_sample: {len(each)} figures for {max(1, len(power.gears))} gears; give one each"
        )
