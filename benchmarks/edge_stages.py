"""One stage after the other against overlapped stages, on the same samples of the yard.

    python benchmarks/edge_stages.py [--recording FILE] [--rounds 5] [--threads 1 2] [--pace flat-out|realtime]

Readings are decoded before and nothing is committed: it is the device's pipeline from a decoded sample to its record.
Rounds take turns between the ways, so that what else the machine does falls on all; told are the medians of the rounds.
The latency of an overlapped sample counts its wait for the second stage.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edge_node.config import EdgeSettings, EngineSettings, SourceSettings
from edge_node.factory import PipelineFactory
from edge_node.models import camera_of, load_perception, model_folder
from edge_node.pacing import Pacer
from edge_node.perception import ModelPerception
from edge_node.sources import Source, open_source
from edge_node.spool import Record, Resume, SampleRecord
from fusion.clock import SystemClock
from fusion.synchronization import Synchronizer
from fusion.task import Task
from fusion.types import Reading

RECORDING = Path(__file__).parents[1] / "fusion/recordings/yard.mcap"


@dataclass(slots=True)
class Way:
    """One way to run, and what its rounds came to."""

    settings: EdgeSettings
    perception: ModelPerception
    rates: list[float] = field(default_factory=list)
    edge_ms: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """For the table."""
        engine = self.settings.engine
        return f"{'overlapped' if engine.overlap else 'one after the other'}, {engine.threads} threads"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recording", type=Path, default=RECORDING)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pace", choices=("flat-out", "realtime"), default="flat-out")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    task = Task.load("yard")
    source = open_source(SourceSettings(path=arguments.recording), task)
    readings = list(source.readings(0))
    speed = 1.0 if arguments.pace == "realtime" else math.inf
    ways = [
        _way(arguments.recording, task, EngineSettings(threads=threads, overlap=overlap))
        for threads in arguments.threads
        for overlap in (False, True)
    ]
    for _ in tqdm(range(arguments.rounds), desc="rounds", unit="round"):
        for way in ways:
            _round(way, task, source, readings, Pacer(speed, SystemClock()))
    report(ways)


def report(ways: list[Way]) -> None:
    """The table; ratios are of the same round, against the first way."""
    print("| way | samples/s | against the first | edge ms p50 | p99 |\n|---|---|---|---|---|")
    for way in ways:
        ratio = statistics.median(a / b for a, b in zip(way.rates, ways[0].rates, strict=True))
        p50, p99 = np.percentile(way.edge_ms, [50, 99])
        print(f"| {way.name} | {statistics.median(way.rates):.1f} | {ratio:.2f} | {p50:.1f} | {p99:.1f} |")


def _way(recording: Path, task: Task, engine: EngineSettings) -> Way:
    settings = EdgeSettings(source=SourceSettings(path=recording), engine=engine)
    reference = Synchronizer.of_task(task, settings.synchronizer).reference
    return Way(settings, load_perception(task, camera_of(task, reference), model_folder(task, ""), engine))


def _round(way: Way, task: Task, source: Source, readings: list[tuple[int, Reading]], pacer: Pacer) -> None:
    records: list[Record] = []
    factory = PipelineFactory(way.settings, task, source, way.perception, SystemClock())
    pipeline = factory.make(Resume(1, 0), 1, "0" * 16, records.append)
    began = time.perf_counter()
    for cursor, reading in readings:
        time.sleep(max(0, pacer.due_ns(reading.capture_time_ns) - pacer.clock.monotonic_ns()) / 1e9)
        pipeline.feed(cursor, reading)
    pipeline.finish()
    took = time.perf_counter() - began
    samples = [record for record in records if isinstance(record, SampleRecord)]
    way.rates.append(len(samples) / took)
    way.edge_ms += [record.timing.edge / 1e6 for record in samples]


if __name__ == "__main__":
    main()
