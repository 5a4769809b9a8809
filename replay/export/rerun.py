"""The run as a Rerun file: pictures, points, boxes and verdicts on the recording's timeline, to scrub through."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from fusion.errors import InputError
from fusion.recording.base import RecordingReader
from fusion.types import Box2D, Image, Modality, Truth
from replay.export.base import EPOCH_NS, Exported, Openers, file_of
from replay.report.wording import reason_words
from replay.results.answers import Answerer, Outcome, answers, outcome, standing
from replay.results.frames import FrameIndex, FrameView
from replay.results.records import ItemResult, RecordingResults, RunResults, SampleResult

if TYPE_CHECKING:
    from numpy.typing import NDArray

APPLICATION = "fusion-stack replay"
TIMELINE = "recording"
POINT_BUDGET = 1_500_000
"""LiDAR points in the whole file; sweeps are thinned evenly to stay under it."""
_GRID_PER_M = 64.0
_HEIGHTS = 16
_LOWEST_M, _HIGHEST_M = -0.3, 3.0
_GREY, _GREEN, _RED, _TRUTH = (134, 174, 222), (69, 210, 129), (255, 110, 100), (37, 224, 138)
_COLOUR_OF = {Outcome.RIGHT: _GREEN, Outcome.WRONG: _RED, Outcome.UNKNOWN: (255, 194, 26)}
_SHOWN = {"jpeg": "image/jpeg", "jpg": "image/jpeg", "png": "image/png"}
NAME = "scene.rrd"


class Stream(Protocol):
    """What is used of `rerun.RecordingStream`."""

    def log(self, entity_path: str, entity: Any, *, static: bool = False) -> None:
        """Log a component batch at the current time."""

    def set_time(self, timeline: str, *, duration: Any = None, timestamp: Any = None) -> None:
        """Set the current time."""


def export(results: RunResults, opened: Openers, out: Path) -> Exported:
    """A file each recording, `scene.rrd`. See `replay.export.base.Exporter`."""
    files = [file_of(results, one, out, NAME) for one in results.recordings]
    for one, path in zip(results.recordings, files, strict=True):
        write_rerun(results, one, opened[one.name](), path)
    return Exported(tuple(files))


def recording_id(run: RunResults, one: RecordingResults) -> str:
    """What the viewer knows a file by: it shows those that share it as one recording.

    Task, name in the run, variant and stretch to be read, then a digest with the source and what was set.
    """
    to = "end" if one.to_s is None else f"{one.to_s:g}s"
    stretch = "" if one.from_s == 0 and one.to_s is None else f"{one.from_s:g}s-{to}"
    told = [run.task.name, one.name, run.variant, stretch]
    exact = [*told, repr((one.from_s, one.to_s)), one.source, one.split, repr(sorted(run.settings.items()))]
    return "-".join([*filter(None, told), hashlib.sha256("\n".join(exact).encode()).hexdigest()[:12]])


def write_rerun(run: RunResults, results: RecordingResults, reader: RecordingReader, out_rrd: Path) -> None:
    """Write every sample of one recording of `run` to `out_rrd`. Raises `InputError` when the file cannot be written.

    Frames are read once, forward; what is in memory is a fraction of a second and Rerun's own batch.
    """
    import rerun as rr

    task = run.task
    stream = rr.RecordingStream(APPLICATION, recording_id=recording_id(run, results))
    camera = next(iter(task.of_modality(Modality.CAMERA)), "")
    part = out_rrd.with_name(f"{out_rrd.name}.part")
    try:
        out_rrd.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        stream.save(part, default_blueprint=_layout(camera, solid=bool(task.of_modality(Modality.LIDAR))))
        scene = _Scene(rr, stream, f"world/{camera}", _by_sequence(results.items), len(results.samples))
        frames = FrameIndex(reader, task)
        for sample in sorted(results.samples, key=lambda one: one.time_ns):
            scene.add(sample, frames(sample.time_ns))
        stream.flush()
        stream.disconnect()
        part.replace(out_rrd)
    except (OSError, RuntimeError) as error:
        raise InputError(f"{out_rrd}: the scene cannot be written: {error}") from None
    finally:
        with suppress(OSError):
            part.unlink()


def _by_sequence(items: Sequence[ItemResult]) -> dict[int, list[ItemResult]]:
    together: dict[int, list[ItemResult]] = defaultdict(list)
    for item in items:
        together[item.sequence].append(item)
    return together


def _layout(camera: str, *, solid: bool) -> Any:
    """Camera and curves on the left; the world and what was said and answered on the right."""
    import rerun.blueprint as rrb

    picture = rrb.Spatial2DView(origin=f"world/{camera}", name="camera")
    curves = rrb.TimeSeriesView(origin="edge", name="milliseconds on the device")
    words = rrb.TextLogView(origin="log", name="said and answered")
    world = [rrb.Spatial3DView(origin="world", name="world")] if solid else []
    right = rrb.Vertical(*world, words, row_shares=[2, 1][-1 - len(world) :])
    return rrb.Blueprint(
        rrb.Horizontal(rrb.Vertical(picture, curves, row_shares=[3, 1]), right, column_shares=[3, 2]),
        rrb.BlueprintPanel(state="collapsed"),
        rrb.TimePanel(state="collapsed", timeline=TIMELINE),
        rrb.SelectionPanel(state="collapsed"),
    )


@dataclass(slots=True)
class _Scene:
    """Logs sample after sample. `camera` is the entity the picture and its boxes are under."""

    rr: Any
    stream: Stream
    camera: str
    items: dict[int, list[ItemResult]]
    samples: int
    begun: bool = False
    stride: int = 0
    said: str = ""

    def add(self, sample: SampleResult, view: FrameView | None) -> None:
        """One sample with everything about it."""
        self._set_time(sample.time_ns)
        if view:
            self._begin(view)
            self._picture(view)
            self._points(view)
            self._truth(view.truth)
            self._speech(view)
        self._items(self.items.get(sample.sequence, []))
        for name, value in (("decision", sample.edge_ms), ("engines", sample.engine_ms)):
            self.stream.log(f"edge/{name}", self.rr.Scalars(value))

    def _set_time(self, time_ns: int) -> None:
        if time_ns > EPOCH_NS:
            self.stream.set_time(TIMELINE, timestamp=np.datetime64(time_ns, "ns"))
        else:
            self.stream.set_time(TIMELINE, duration=np.timedelta64(time_ns, "ns"))

    def _begin(self, view: FrameView) -> None:
        """What holds for the whole recording: axes, the camera's place and lens, the colours of heights."""
        if self.begun:
            return
        self.begun = True
        rr = self.rr
        if view.calibration is None:
            return
        self.stream.log("world", rr.ViewCoordinates.FLU, static=True)
        at, k = view.calibration.ego_from_camera, view.calibration.k
        size = [view.calibration.width, view.calibration.height]
        self.stream.log(self.camera, rr.Transform3D(translation=at[:3, 3], mat3x3=at[:3, :3]), static=True)
        pinhole = rr.Pinhole(image_from_camera=k, resolution=size, image_plane_distance=1.5)
        self.stream.log(self.camera, pinhole, static=True)
        colours = cv2.applyColorMap(np.linspace(40, 250, _HEIGHTS).astype(np.uint8)[:, None], cv2.COLORMAP_TURBO)
        context = [(index, "", tuple(int(c) for c in bgr[::-1])) for index, bgr in enumerate(colours[:, 0])]
        self.stream.log("world/lidar", rr.AnnotationContext(context), static=True)

    def _picture(self, view: FrameView) -> None:
        if view.image is not None:
            contents, media_type = encoded(view.image)
            picture = self.rr.EncodedImage(contents=contents, media_type=media_type)
            self.stream.log(f"{self.camera}/picture", picture)

    def _points(self, view: FrameView) -> None:
        if view.points is None:
            return
        self.stride = self.stride or max(1, -(-len(view.points) * self.samples // POINT_BUDGET))
        points = view.points[:: self.stride, :3]
        positions = np.round(points * _GRID_PER_M) / _GRID_PER_M
        part = (points[:, 2] - _LOWEST_M) / (_HIGHEST_M - _LOWEST_M)
        heights = np.clip(part * _HEIGHTS, 0, _HEIGHTS - 1).astype(np.uint16)
        self.stream.log("world/lidar", self.rr.Points3D(positions, class_ids=heights, radii=0.025))

    def _truth(self, truth: Truth | None) -> None:
        things = truth.objects if truth else ()
        names = [f"{t.label} {t.condition or ''}".strip() + (" (asked for)" if t.asked_for else "") for t in things]
        flat = [(t.box2d, name) for t, name in zip(things, names, strict=True) if t.box2d]
        self._boxes("truth", [box for box, _ in flat], [_TRUTH] * len(flat), [name for _, name in flat], 1.0)
        solid = [(t.box3d, name) for t, name in zip(things, names, strict=True) if t.box3d]
        if not solid:
            self.stream.log("world/truth", self.rr.Clear(recursive=False))
            return
        boxes = self.rr.Boxes3D(
            centers=[(b.x, b.y, b.z) for b, _ in solid],
            sizes=[(b.length, b.width, b.height) for b, _ in solid],
            quaternions=[(0.0, 0.0, np.sin(b.yaw / 2), np.cos(b.yaw / 2)) for b, _ in solid],
            colors=[_TRUTH] * len(solid),
            labels=[name for _, name in solid],
            show_labels=False,
        )
        self.stream.log("world/truth", boxes)

    def _speech(self, view: FrameView) -> None:
        if view.transcript and view.transcript != self.said:
            intent = view.truth.intent if view.truth else ""
            self.stream.log("log/said", self.rr.TextLog(f"“{view.transcript}” ({intent})", level="INFO"))
        self.said = view.transcript

    def _items(self, items: Sequence[ItemResult]) -> None:
        answered = [item for item in items if item.verdict]
        others = [item for item in items if not item.verdict]
        names = [f"{item.label} {item.score:.2f}" for item in others]
        self._boxes("detections", [item.box for item in others], [_GREY] * len(others), names, 1.0)
        colours = [_COLOUR_OF[outcome(item)] for item in answered]
        self._boxes("verdicts", [item.box for item in answered], colours, [verdict_words(i) for i in answered], 2.5)
        for item in answered:
            level = "WARN" if outcome(item) is Outcome.WRONG else "INFO"
            why = "; ".join(reason_words(reason) for reason in item.reasons)
            told = f"{item.id.rpartition('/')[2]}: {verdict_words(item)}. {why}"
            self.stream.log("log/verdicts", self.rr.TextLog(told, level=level))

    def _boxes(
        self,
        name: str,
        boxes: Sequence[Box2D],
        colours: Sequence[tuple[int, int, int]],
        labels: Sequence[str],
        radius: float,
    ) -> None:
        """Boxes of one kind, replacing those of the sample before; labels show where they are answers."""
        path = f"{self.camera}/{name}"
        if not boxes:
            self.stream.log(path, self.rr.Clear(recursive=False))
            return
        corners: NDArray[np.float32] = np.array([[b.x1, b.y1, b.x2, b.y2] for b in boxes], np.float32)
        drawn = self.rr.Boxes2D(
            array=corners, array_format=self.rr.Box2DFormat.XYXY, colors=colours, labels=labels,
            show_labels=name == "verdicts", radii=-radius,
        )  # fmt: skip
        self.stream.log(path, drawn)


def encoded(image: Image) -> tuple[bytes, str]:
    """The recorded bytes where Rerun can show them, else a JPEG of the pixels; with the media type."""
    if image.encoded and image.encoding in _SHOWN:
        return image.encoded, _SHOWN[image.encoding]
    bgr = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])[1]), "image/jpeg"


def verdict_words(item: ItemResult) -> str:
    """The answers of all slots with the least sure one's probability, and the truth where it differs."""
    given = answers(item, standing(item))
    words = " · ".join(given.values())
    if standing(item) is Answerer.REVIEWER:
        words += f" ({100 * min(answer.confidence for answer in item.verdict.values()):.0f} %)"
    missed = [f"{name}: {truth}" for name, truth in item.truth_answers.items() if given.get(name) != truth]
    return words + (f", in truth {', '.join(missed)}" if missed else "")
