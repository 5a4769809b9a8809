"""What a doctor of either node found, a line each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report; `advice` says what to do where it is not ok."""

    state: State
    name: str
    found: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{self.state:<4}  {self.name:<9} {self.found}"
        return f"{line} -> {self.advice}" if self.advice else line
