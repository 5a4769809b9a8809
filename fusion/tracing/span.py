"""A span as a plain value, made when what it tells of is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

Value: TypeAlias = str | bool | int | float | Sequence[str]


class Kind(StrEnum):
    """How a span stands to other hosts: it asked one, it served one, or neither."""

    INTERNAL = "internal"
    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Span:
    """What was done from `start_ns` to `end_ns` (wall clock). `parent` is empty at the root of a trace.

    `error` says why it did not work out, empty where it did.
    """

    name: str
    trace: str
    id: str
    parent: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value] = field(default_factory=dict)
    kind: Kind = Kind.INTERNAL
    error: str = ""
