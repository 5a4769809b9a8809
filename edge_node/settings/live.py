"""What `edge.toml` says of what is opened by its URL: live sensors, a trigger, odometry."""

from __future__ import annotations

import re

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from fusion.config import NOT_SHOWN, Settings, SomeSeconds

_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S*|gst:.*")
"""A pipeline of GStreamer has spaces in it."""


class SupervisedSettings(Settings):
    """What is opened by its URL and, when it fails, anew after a jittered pause.

    The pause is `backoff_first_s`, doubled up to `backoff_max_s`.
    """

    url: str
    backoff_first_s: SomeSeconds = 0.2
    backoff_max_s: SomeSeconds = 5.0

    @field_validator("url")
    @classmethod
    def _is_one(cls, value: str) -> str:
        if not _URL.fullmatch(value):  # told without the value: there may be a password in it
            raise PydanticCustomError(NOT_SHOWN, "give SCHEME://..., the scheme in small letters and no space in it")
        return value


class LiveSensorSettings(SupervisedSettings):
    """A live sensor: `name` is the task's, the scheme of `url` a name of the entry-point group `fusion.drivers`.

    `offset_s` is added to the time of arrival, negative for what a sensor takes to deliver. Nothing for `silent_s` is
    reported.
    """

    name: str
    offset_s: float = Field(default=0.0, ge=-10, le=10)
    silent_s: SomeSeconds = 1.0


class TriggerSettings(SupervisedSettings):
    """What asks for frames of the reference sensor; the scheme of `url` is a name of the group `fusion.triggers`.

    A trigger takes the first frame captured `delay_s` after it or later, and waits for it until `within_s` after that.
    """

    delay_s: float = Field(default=0.0, ge=0, le=60)
    within_s: float = Field(default=0.5, gt=0, le=60)


class OdometrySettings(SupervisedSettings):
    """What tells how the device moves; the scheme of `url` is a name of the group `fusion.odometry`.

    `offset_s` is added to the times of its poses. Nothing for `silent_s` is reported.
    """

    offset_s: float = Field(default=0.0, ge=-10, le=10)
    silent_s: SomeSeconds = 1.0
