"""`scene.mcap`: a recording with what a run made of it, a file each recording.

    /fusion/CAMERA/detections   foxglove.ImageAnnotations   every item's box, class and score
    /fusion/CAMERA/verdicts     foxglove.ImageAnnotations   what was reviewed, with its answers
    /fusion/objects             foxglove.SceneUpdate        fused boxes in the ego frame
    /fusion/log                 foxglove.Log                what came of each item, and each defect that was missed
    /fusion/latency bytes items JSON                        numbers to plot

All of a sample is stored behind the reading it was made at, with that reading's time in the file; annotations carry the
time of the picture they are drawn on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from fusion.errors import InputError
from fusion.recording.base import RecordingReader
from fusion.task import Task
from fusion.types import Modality
from replay.export.base import Exported, Openers, file_of
from replay.export.foxglove import drawing
from replay.export.foxglove.metrics import SCHEMAS, Metrics
from replay.export.foxglove.source import REPLAY_METADATA, source_of
from replay.export.foxglove.writer import TopicWriter
from replay.results.records import DefectResult, ItemResult, RecordingResults, RunResults, SampleResult

NAME = "scene.mcap"
OBJECTS, LOG = "/fusion/objects", "/fusion/log"
_MS = 1e-6
_Of = TypeVar("_Of", ItemResult, DefectResult, SampleResult)


def export(results: RunResults, opened: Openers, out: Path) -> Exported:
    """A file each recording. See `replay.export.base.Exporter`."""
    files = [file_of(results, one, out, NAME) for one in results.recordings]
    facts = {"task": results.task.name, **{f"set {key}": value for key, value in results.settings.items()}}
    for one, path in zip(results.recordings, files, strict=True):
        write_recording(results.task, one, opened[one.name](), path, facts)
    return Exported(tuple(files))


def write_recording(
    task: Task, one: RecordingResults, reader: RecordingReader, path: Path, facts: dict[str, str]
) -> None:
    """Write one recording with its results to `path`. Raises `InputError` naming the file.

    What is recorded is read once, forward, and held one message at a time.
    """
    if reader.path.resolve() == path.resolve():
        raise InputError(f"{path}: is the recording itself; give the run another folder")
    source = source_of(reader, one)
    with TopicWriter(path, source.profile) as writer:
        overlay = Overlay(writer, one, next(iter(task.of_modality(Modality.CAMERA)), ""), source.ego)
        for cursor, log_ns in source.pour(writer):
            overlay.at(cursor, log_ns)
        overlay.finish()
        writer.metadata(REPLAY_METADATA, {"recording": one.name, "source": one.source, "split": one.split, **facts})


class Overlay:
    """Writes each sample's messages once the reading it was made at is there. `camera` is empty for a task without."""

    def __init__(self, writer: TopicWriter, one: RecordingResults, camera: str, frame: str) -> None:
        self._writer, self._camera, self._frame = writer, camera, frame
        self._waiting = _grouped(one.samples, "cursor")
        self._items = _grouped(one.items, "sequence")
        self._defects = _grouped(one.defects, "time_ns")
        self._metrics = Metrics()

    def at(self, cursor: int, log_ns: int) -> None:
        """The reading with this cursor is in the file, at this time."""
        for sample in self._waiting.pop(cursor, ()) if cursor else ():
            self._write(sample, log_ns)

    def finish(self) -> None:
        """Write samples whose reading did not come, such as one behind the damage, at their own times."""
        rest = [sample for samples in self._waiting.values() for sample in samples]
        for sample in sorted(rest, key=lambda sample: sample.time_ns):
            self._write(sample, sample.time_ns)

    def _write(self, sample: SampleResult, log_ns: int) -> None:
        items, time_ns = self._items.get(sample.sequence, []), sample.time_ns
        if self._camera:
            image_ns = time_ns - round(sample.ages_ms.get(self._camera, 0.0) / _MS)
            place = f"/fusion/{self._camera}"
            self._writer.proto(f"{place}/detections", log_ns, drawing.detections(items, image_ns))
            self._writer.proto(f"{place}/verdicts", log_ns, drawing.verdicts(items, image_ns))
        self._writer.proto(OBJECTS, log_ns, drawing.objects(items, self._frame, time_ns))
        lines = [drawing.log_line(item, time_ns) for item in items]
        lines += [drawing.missed_line(defect, time_ns) for defect in self._defects.pop(time_ns, [])]
        for line in lines:
            if line is not None:
                self._writer.proto(LOG, log_ns, line)
        for topic, value in self._metrics.of(sample, items).items():
            self._writer.json(topic, log_ns, value, SCHEMAS[topic])


def _grouped(values: Sequence[_Of], key: str) -> dict[int, list[_Of]]:
    found: dict[int, list[_Of]] = defaultdict(list)
    for value in values:
        found[getattr(value, key)].append(value)
    return dict(found)
