"""What follows `process:` or `ray:` in a reviewer's name."""

from __future__ import annotations

import re
from typing import ClassVar, Self
from urllib.parse import parse_qsl

from pydantic import Field, ValidationError, field_validator

from fusion.config import Settings
from fusion.errors import ConfigError
from fusion.review.replicated import ScaleLimits

_COUNT = re.compile(r"(\d{1,4})|auto:(\d{1,4})-(\d{1,4})")


class ReplicasName(Settings):
    """`[REVIEWER]?OPTION=VALUE&...`: everything up to the last `]` is the name of the reviewer that has replicas.

    `replicas` is a number, or `auto:LEAST-MOST` for as many as the queue asks for: one more for each `target_s` seconds
    of work that wait, one less after `idle_s` seconds of too little. Each gets `gpus` GPUs and computes with `cpus`
    threads. A replica that has not answered a batch after `timeout_s` is taken for dead, one that has not loaded after
    `start_s` too.
    """

    scheme: ClassVar[str]

    reviewer: str = Field(min_length=1)
    replicas: str = "1"
    gpus: float = Field(default=1.0, ge=0, le=64)
    cpus: int = Field(default=1, ge=1, le=256)
    target_s: float = Field(default=1.0, gt=0)
    idle_s: float = Field(default=60.0, ge=0)
    timeout_s: float = Field(default=60.0, gt=0)
    start_s: float = Field(default=300.0, gt=0)

    @field_validator("replicas")
    @classmethod
    def _counts(cls, text: str) -> str:
        found = _COUNT.fullmatch(text)
        if found is None:
            raise ValueError("neither a number nor auto:LEAST-MOST, such as 2 or auto:1-8")
        counts = [int(count) for count in found.groups() if count is not None]
        if not 1 <= counts[0] <= counts[-1]:
            raise ValueError("at least 1, and the least first")
        return text

    @field_validator("gpus")
    @classmethod
    def _whole(cls, gpus: float) -> float:
        if gpus > 1 and gpus != int(gpus):
            raise ValueError("a share of one GPU, or a whole number of them")
        return gpus

    @classmethod
    def parse(cls, argument: str) -> Self:
        """Read it. Raises `ConfigError` that says what is missing or unknown."""
        shown = f"reviewer {cls.scheme}:{argument}"
        inner, bracket, asked = argument.rpartition("]")
        if not (inner.startswith("[") and bracket and (not asked or asked.startswith("?"))):
            raise ConfigError(f"{shown}: which reviewer, and how many? give {cls.scheme}:[REVIEWER]?replicas=2&gpus=1")
        if inner.startswith(("[ray:", "[process:")):
            raise ConfigError(f"{shown}: replicas have no replicas of their own")
        try:
            given = dict(parse_qsl(asked[1:], keep_blank_values=True, strict_parsing=bool(asked[1:])))
            return cls.model_validate({"reviewer": inner[1:], **given})
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(f"{shown}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        except ValueError:
            raise ConfigError(f"{shown}: {asked[1:]!r} is not of the form OPTION=VALUE&OPTION=VALUE") from None

    @property
    def limits(self) -> ScaleLimits:
        """How many replicas there may be."""
        counts = [int(count) for count in self.replicas.removeprefix("auto:").split("-")]
        return ScaleLimits(counts[0], counts[-1], self.target_s, self.idle_s)


class ProcessName(ReplicasName):
    """What follows `process:`: replicas are processes on this machine."""

    scheme = "process"


class RayName(ReplicasName):
    """What follows `ray:`: replicas are actors of the Ray cluster at `address` (`auto`, HOST:PORT), each with `cpus`
    processors there; without one, of an instance of one's own.
    """

    scheme = "ray"
    address: str = Field(default="", pattern=r"^\S*$")
