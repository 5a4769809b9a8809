"""What a run left behind, joined: samples, items, verdicts and truth. Everything a report or a comparison reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fusion.task import Task
from fusion.types import Box2D, ItemState, LedgerCounts, SlotAnswer, TruthObject


@dataclass(frozen=True, slots=True)
class SampleResult:
    """One sample. Durations in milliseconds; `edge_ms` is decoded sample to decision, engine calls included."""

    sequence: int
    cursor: int
    time_ns: int
    edge_ms: float
    engine_ms: float
    commit_ms: float
    decode_ms: float
    ages_ms: Mapping[str, float]
    intent: str = ""


@dataclass(frozen=True, slots=True)
class ItemResult:
    """One item: what the device saw and decided, what the reviewer answered, and what was true.

    `box` is in pixels of the recorded frame. `device_answers` and `detector_answers` are the device's fused
    heads' and the bare detector's answers to the verdict's slots; `truth_answers` is empty without truth.
    """

    id: str
    sequence: int
    time_ns: int
    track: int
    box: Box2D
    label: str
    score: float
    state: ItemState
    reasons: tuple[str, ...]
    into: str = ""
    state_reason: str = ""
    evidence_bytes: int = 0
    maps_bytes: int = 0
    crop_bytes: int = 0
    lanes: tuple[str, ...] = ()
    uncertain: bool = False
    verdict: Mapping[str, SlotAnswer] = field(default_factory=dict)
    verdict_latency_ms: float = 0.0
    device_answers: Mapping[str, str] = field(default_factory=dict)
    detector_answers: Mapping[str, str] = field(default_factory=dict)
    truth_answers: Mapping[str, str] = field(default_factory=dict)
    truth: TruthObject | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RunResults:
    """One recording run through both nodes."""

    task: Task
    recording: Path
    split: str
    samples: tuple[SampleResult, ...]
    items: tuple[ItemResult, ...]
    edge_ledger: LedgerCounts
    cloud_ledger: LedgerCounts
    summary: Mapping[str, float | int | str | None]
    batch_sizes: tuple[int, ...] = ()
