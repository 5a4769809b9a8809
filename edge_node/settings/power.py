"""What `edge.toml` says of power and heat."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from fusion.config import Settings, SomeSeconds

POWER_KINDS = ("ina3221", "tegrastats", "hwmon", "rapl", "nvml")


class GearSettings(Settings):
    """One gear: at most `rate_hz` reference frames a second of the stream's own time; the others are declared gaps.

    0 is no limit, and below 0.5 the synchronizer would take the pauses for a clock that was set. `models` is the
    folder of another bundle on the same trunk; empty is the daemon's own.
    """

    rate_hz: float = Field(default=0.0, ge=0)
    models: str = ""

    @field_validator("rate_hz")
    @classmethod
    def _not_too_slow(cls, value: float) -> float:
        if 0 < value < 0.5:
            raise ValueError("give 0 for no limit, or at least 0.5")
        return value


class PowerSettings(Settings):
    """What is read of the board's power and heat, and the governor that keeps to limits of them.

    `source` is `auto`, `off`, or ina3221, tegrastats, hwmon, rapl or nvml, with the sensor behind a colon where there
    are several (`ina3221:VDD_IN`); it is read each `period_s`. `budget_watts` and `limit_c` (the warmest thermal zone)
    0 are no limit. One exceeded for `react_s` shifts down a gear; all below the share `release` of theirs for
    `recover_s` shift up one. Watts are averaged with the time constant `react_s` before. `gears`: the highest first,
    at least two for a limit.
    """

    source: str = "auto"
    period_s: float = Field(default=0.25, ge=0.01, le=2.5)
    react_s: SomeSeconds = 2.0
    recover_s: SomeSeconds = 30.0
    release: float = Field(default=0.9, gt=0, lt=1)
    gears: tuple[GearSettings, ...] = ()
    budget_watts: float = Field(default=0.0, ge=0)
    limit_c: float = Field(default=0.0, ge=0)

    @property
    def governed(self) -> bool:
        """Whether there is a limit to keep to."""
        return bool(self.budget_watts or self.limit_c)

    @field_validator("source")
    @classmethod
    def _known(cls, value: str) -> str:
        kind, colon, sensor = value.partition(":")
        if kind in POWER_KINDS and (sensor or not colon):
            return value
        if value in {"auto", "off"}:
            return value
        raise ValueError(
            f"give 'auto', 'off', or {', '.join(POWER_KINDS)}, with ':SENSOR' behind where there are several"
        )

    @field_validator("budget_watts", "limit_c")
    @classmethod
    def _needs_gears(cls, value: float, info: ValidationInfo) -> float:
        if value and len(info.data.get("gears", ())) < 2:
            raise ValueError("a limit needs at least two [[power.gears]], the highest first")
        return value
