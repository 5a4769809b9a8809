"""How far apart in time the readings of one sample may lie."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from fusion.config import LONGEST_S, Settings

Milliseconds = Annotated[float, Field(ge=0, le=LONGEST_S * 1e3)]


class SynchronizerSettings(Settings):
    """Which readings belong to one sample; milliseconds of capture time, `reference` is a sensor's name.

    A reading up to `ahead_ms` newer than the frame may be used, and that is how long a frame waits for it: until the
    frames, or another sensor's stamps since the frame came, went on by more. Up to `present_ms` old it is present, up
    to `late_ms` late, beyond that the sensor is absent.
    """

    reference: str = ""
    ahead_ms: Milliseconds = 50.0
    present_ms: Milliseconds = 75.0
    late_ms: Milliseconds = 500.0
    audio_window_s: float = Field(default=3.0, gt=0, le=30)
    depth: int = Field(default=8, ge=1, le=256)

    @model_validator(mode="after")
    def _ordered(self) -> SynchronizerSettings:
        if self.late_ms < self.present_ms:
            raise ValueError("late_ms must not be smaller than present_ms")
        return self
