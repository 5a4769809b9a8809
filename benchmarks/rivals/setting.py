"""What every rival with our scorer inside is told, the same for all."""

from __future__ import annotations

import sys
from typing import Self

from pydantic import Field

from fusion.config import Settings


class Setting(Settings):
    """`most_waiting` and `queue_timeout_s` are what a user who knows deadline and capacity sets by hand; 0 for none."""

    reviewer: str
    port: int = 0
    threads: int = 1
    batch: int = Field(default=16, ge=1)
    wait_ms: float = Field(default=4.0, ge=0)
    most_waiting: int = Field(default=0, ge=0)
    queue_timeout_s: float = Field(default=0.0, ge=0)

    @classmethod
    def of_command(cls) -> Self:
        """From the first argument of a server's command line."""
        return cls.model_validate_json(sys.argv[1])
