"""How right the reviewer is against what an item costs: the evidence codec's rates against pictures of the same.

    fusion simulate yard --scenes 2000 --split test -o out/scenes-test      # never trained on
    python benchmarks/rate_accuracy.py --data out/scenes-test --scenes 300
    python benchmarks/rate_accuracy.py --task pcb --data DEEPPCB --scenes 350

Asked are the items that the device would escalate. Every way gives the same reviewer the same header, opinion and
fused tokens, and boxes of the device; what differs is how the maps get there, and only those bytes are counted:

  codes     the evidence codec, in five settings fixed beforehand: all layers, then the first in ever coarser steps
  frame     JPEG, WebP and AVIF of the frame; the service runs the trunk on it; bytes shared by the frame's items
  region    JPEG, WebP and AVIF of the cells' region; the service runs the trunk on that, on grey
  crop      JPEG, WebP and AVIF of the 96 px crop alone, read by the reviewer's pixel lane, without maps; and, with
            `--crop-reviewer FOLDER` (benchmarks/crop_reviewer.py), read by a reviewer trained on crops alone
  neither   no maps and no crop: what the shared lanes alone are worth
  packed    the gated codes as zstd, and their values as float16 and zstd

Told are verdicts right, log-loss (mean over slots of -ln of the truth's probability), and for frames the detector's own
mAP50; 95 % intervals by resampling scenes. Bytes are those of the serialised lane, or of the picture's file. The
BD-rate is the mean difference in log bytes at equal log-loss, over the span both reach, of codes against each picture
codec; each way has five settings, whose losses, by rising bytes, are made monotone first (isotonic regression). The
last rows are the named rates of the evidence codec, in bytes of the whole message.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import zstandard
from scipy.optimize import isotonic_regression
from tqdm import tqdm

from fusion.codec import LAYERS, RATES, Profile, encode_maps, item_gate
from fusion.evaluation.bootstrap import mean_interval
from fusion.evaluation.detection import DetectionLog
from fusion.perception.detector import DetectorResult
from fusion.perception.evidence import cut_out
from fusion.preparation import letterbox
from fusion.recording.pictures.image_folder import LabelledBox
from fusion.review.features import ReviewFeatures, extract_features, sample_maps
from fusion.review.item_cache import ItemCache
from fusion.review.mini import MiniReviewer
from fusion.task import Task
from fusion.training.bundle import bundle_folder
from fusion.training.detection.sources import image_folder
from fusion.training.rate_card import Escalated, escalated_moments, log_losses, probabilities
from fusion.training.review_items import Device, ItemRecipe, build_item_cache
from fusion.training.review_sources import FolderMoments, LabelledMoment, MomentSource, YardMoments
from fusion.types import BoolArray, Box2D, CellWindow, Float64Array, GatedMaps, Image, ItemId, SampleId, UInt8Array
from fusion.wire.convert import maps_to_proto, serialize_evidence

LADDER = ((0, LAYERS), (0, 1), (1, 1), (2, 1), (3, 1))
"""Step exponent and layers of the settings of `codes`."""
QUALITIES = (5, 20, 40, 70, 90)
PICTURES = {
    "JPEG": (".jpg", cv2.IMWRITE_JPEG_QUALITY),
    "WebP": (".webp", cv2.IMWRITE_WEBP_QUALITY),
    "AVIF": (".avif", cv2.IMWRITE_AVIF_QUALITY),
}
GREY = 114
RESAMPLES = 300
Figures = tuple[Float64Array, BoolArray, Float64Array]
"""Of each item (N,): bytes, whether its verdict is right, log-loss."""
Curve = list[Figures]


@dataclass(slots=True)
class Way:
    """One way of sending, at one setting: a row an item."""

    bytes: list[float] = field(default_factory=list)
    rows: list[ReviewFeatures] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One escalated item: what every way shares."""

    index: int
    box: Box2D
    windows: tuple[CellWindow, ...]
    gates: list[BoolArray]
    features: ReviewFeatures


@dataclass(slots=True)
class Study:
    """Runs every way over the items and gathers their rows."""

    device: Device
    qualities: tuple[int, ...]
    ways: dict[tuple[str, str], Way] = field(default_factory=dict)
    logs: dict[tuple[str, str], DetectionLog] = field(default_factory=dict)
    named: dict[str, list[int]] = field(default_factory=dict)
    scenes: list[int] = field(default_factory=list)
    truth: list[Any] = field(default_factory=list)

    def add(self, asked: Escalated) -> None:
        """All ways for the chosen items of a moment."""
        device, profile = self.device, self.device.profile
        found, fused = device.look(asked.number, asked.moment)
        items = []
        for index, answers in zip(asked.chosen, asked.truth, strict=True):
            box = found.detections[index].box
            name = ItemId(SampleId("bench", "0" * 16, asked.number + 1), index + 1)
            for rate in RATES:
                evidence = device.evidence(name, found, fused, index, rate)
                self.named.setdefault(rate.name, []).append(len(serialize_evidence(evidence)))
                row = replace(extract_features(evidence, profile, device.layout), crop=None)
                self._note("rate", rate.name, self.named[rate.name][-1], row)
                if rate is RATES[0]:
                    items.append(Item(index, box, *item_gate(profile, box, found.cell_scores), row))
            self.scenes.append(asked.number)
            self.truth.append(answers)
        for item in items:
            self._codes(item, found)
            self._packed(item, found)
            self._crop(item, found, asked.moment)
            self._regions(item, asked.moment)
        if items:
            self._frames(items, asked.moment)

    def _note(self, way: str, setting: str, size: float, row: ReviewFeatures) -> None:
        entry = self.ways.setdefault((way, setting), Way())
        entry.bytes.append(size)
        entry.rows.append(row)

    def _with_maps(self, item: Item, gated: GatedMaps) -> ReviewFeatures:
        return replace(item.features, maps=sample_maps(gated, item.box, self.device.profile, self.device.layout))

    def _codes(self, item: Item, found: DetectorResult) -> None:
        for exponent, layers in LADDER:
            gated = encode_maps(
                self.device.profile, found.maps, item.windows, item.gates, step_exponent=exponent, layers=layers
            )
            self._note("codes", f"2^{exponent}, {layers}", maps_bytes(gated), self._with_maps(item, gated))

    def _packed(self, item: Item, found: DetectorResult) -> None:
        codes, values = [np.packbits(np.concatenate([gate.ravel() for gate in item.gates])).tobytes()], []
        for level, whole, window, gate in zip(
            self.device.profile.levels, found.maps, item.windows, item.gates, strict=True
        ):
            inside = whole[:, window.y : window.y + window.height, window.x : window.x + window.width][:, gate]
            codes.append(inside.tobytes())
            values.append((inside * level.step[:, None]).astype(np.float16).tobytes())
        compress = zstandard.ZstdCompressor(9).compress
        self._note("packed", "int8, zstd", len(compress(b"".join(codes))), item.features)
        self._note("packed", "float16, zstd", len(compress(codes[0] + b"".join(values))), item.features)

    def _crop(self, item: Item, found: DetectorResult, moment: LabelledMoment) -> None:
        self._note("neither", "", 0, replace(item.features, maps=None))
        shown, _ = cut_out(moment.image, found.placement, item.box, self.device.layout.crop)
        for name, quality, size, decoded in self._coded(shown):
            self._note(f"crop {name}", str(quality), size, replace(item.features, maps=None, crop=decoded))

    def _frames(self, items: list[Item], moment: LabelledMoment) -> None:
        for name, quality, size, decoded in self._coded(moment.image.pixels):
            seen = self.device.detect(Image(decoded))
            log = self.logs.setdefault((f"frame {name}", str(quality)), DetectionLog(self.device.task.classes))
            boxes = [
                LabelledBox(seen.placement.from_frame(t.box2d), self.device.task.classes.index(t.label))
                for t in moment.truth
                if t.box2d is not None
            ]
            log.add(boxes, seen.detections)
            for item in items:
                gated = encode_maps(self.device.profile, seen.maps, item.windows, item.gates)
                self._note(f"frame {name}", str(quality), size / len(items), self._with_maps(item, gated))

    def _regions(self, item: Item, moment: LabelledMoment) -> None:
        profile = self.device.profile
        placed = letterbox(moment.image.pixels, profile.image_width, profile.image_height)[0]
        left, top, right, bottom = pixel_span(profile, item.windows)
        for name, quality, size, decoded in self._coded(placed[top:bottom, left:right]):
            canvas = np.full_like(placed, GREY)
            canvas[top:bottom, left:right] = decoded
            seen = self.device.detect(Image(canvas))
            gated = encode_maps(profile, seen.maps, item.windows, item.gates)
            self._note(f"region {name}", str(quality), size, self._with_maps(item, gated))

    def _coded(self, pixels: UInt8Array) -> Iterator[tuple[str, int, int, UInt8Array]]:
        bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        for name, (suffix, option) in PICTURES.items():
            for quality in self.qualities:
                _, encoded = cv2.imencode(suffix, bgr, [option, quality])
                decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
                yield name, quality, len(encoded), np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def maps_bytes(gated: GatedMaps) -> int:
    """Bytes of the lane in a message: symbols and gate, windows, checksums and framing."""
    return maps_to_proto(gated).ByteSize()


def pixel_span(profile: Profile, windows: tuple[CellWindow, ...]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom, in pixels of the model's input, of all levels' windows together."""
    spans = [
        (w.x * v.stride, w.y * v.stride, (w.x + w.width) * v.stride, (w.y + w.height) * v.stride)
        for v, w in zip(profile.levels, windows, strict=True)
        if w.cells
    ]
    lefts, tops, rights, bottoms = zip(*spans, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="yard")
    parser.add_argument("--data", type=Path, default=Path("out/scenes-test"))
    parser.add_argument("--scenes", type=int, default=300, help="or pictures, the first so many of the test list")
    parser.add_argument("--qualities", type=int, nargs="+", default=list(QUALITIES))
    parser.add_argument("--reviewer", type=Path, help="another than the bundled one")
    parser.add_argument("--crop-reviewer", type=Path, help="one trained on crops alone")
    parser.add_argument("--out", type=Path, default=Path("out/rate-accuracy"))
    arguments = parser.parse_args()
    if not (arguments.data / "test.txt").is_file():
        print(f"{arguments.data}: no test scenes; see --help for how they are made; skipped")
        return
    task = Task.load(arguments.task)
    weights = bundle_folder(task, None)
    source = held_out(task, arguments.data, arguments.scenes)
    build_item_cache(arguments.out / "items", task, weights, source, ItemRecipe())
    cache = ItemCache.load(arguments.out / "items")
    study = Study(Device.load(task, weights, ItemRecipe()), tuple(arguments.qualities))
    for asked in escalated_moments(source, cache, most=len(source)):
        study.add(asked)
    reviewer = MiniReviewer.load(str(arguments.reviewer or weights / "reviewer"))
    of_crops = MiniReviewer.load(str(arguments.crop_reviewer)) if arguments.crop_reviewer else None
    report(study, reviewer, of_crops, arguments.out)


def held_out(task: Task, data: Path, most: int) -> MomentSource:
    """The first `most` scenes of the test split, or pictures of the test list."""
    if task.conditions:
        scenes = YardMoments.of_split(data, task, "test")
        return replace(scenes, stems=scenes.stems[:most])
    pictures = image_folder(task, data)
    return FolderMoments(pictures, task, tuple(pictures.stems("test")[:most]))


def reviewed(study: Study, reviewer: MiniReviewer, of_crops: MiniReviewer | None) -> dict[tuple[str, str], Figures]:
    """Every way's figures at every setting; crops also as `of_crops` reads them."""
    truth = np.array(study.truth)

    def figures(way: Way, reader: MiniReviewer, *, crops_alone: bool = False) -> Figures:
        tables = probabilities(reader, way.rows, crops_alone=crops_alone)
        right = np.asarray((reader.choose(tables) == truth).all(1))
        return np.array(way.bytes), right, log_losses(tables, truth)

    found = {key: figures(way, reviewer) for key, way in tqdm(study.ways.items(), unit="way", desc="reviewing")}
    for (name, setting), way in study.ways.items():
        if of_crops and name.startswith("crop"):
            found[f"{name}, reviewer trained on crops", setting] = figures(way, of_crops, crops_alone=True)
    return found


def report(study: Study, reviewer: MiniReviewer, of_crops: MiniReviewer | None, out: Path) -> None:
    """Ask the reviewers about every way's rows; print the tables and keep them as JSON."""
    out.mkdir(parents=True, exist_ok=True)
    scenes = np.array(study.scenes)
    figures = reviewed(study, reviewer, of_crops)
    reference = figures["codes", f"2^0, {LAYERS}"]
    kept: list[dict[str, Any]] = []
    print(f"{len(scenes)} escalated items of {len(np.unique(scenes))} scenes\n")
    print("| way | setting | bytes: mean, median | verdicts right | against all codes | log-loss | against | mAP50 |")
    print("|---|---|---|---|---|---|---|---|")
    for (name, setting), (size, right, loss) in sorted(figures.items(), key=lambda row: row[0][0] == "rate"):
        gain, worse = _told(right.astype(float) - reference[1], scenes), _told(loss - reference[2], scenes)
        log = study.logs.get((name, setting))
        map50 = f"{log.metrics().map50:.3f}" if log else ""
        print(
            f"| {name} | {setting} | {size.mean():,.0f}, {np.median(size):,.0f} | {right.mean():.3f} | "
            f"{gain} | {loss.mean():.4f} | {worse} | {map50} |"
        )
        kept.append({"way": name, "setting": setting, "bytes": size.mean(), "right": right.mean(), "loss": loss.mean()})
    curves = {name: [v for (n, _), v in figures.items() if n == name] for name, _ in figures}
    np.savez_compressed(
        out / "rows.npz",
        scenes=scenes,
        **{
            f"{name} {what}": [v[i] for v in curves[name]] for name in curves for i, what in ((0, "bytes"), (2, "loss"))
        },
    )
    rates = bd_rates(curves, scenes)
    print("\n| codes against | bytes at equal log-loss (BD-rate) [95 %] |\n|---|---|")
    for name, text in rates.items():
        print(f"| {name} | {text} |")
    (out / "rate_accuracy.json").write_text(json.dumps({"ways": kept, "bd_rate": rates}, indent=1) + "\n")


def _told(difference: Float64Array, scenes: np.ndarray) -> str:
    interval = mean_interval(difference, scenes)
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def bd_rates(curves: Mapping[str, Curve], scenes: np.ndarray) -> dict[str, str]:
    """The BD-rate of `codes` against every picture codec, with intervals over resampled scenes."""
    rng, found = np.random.default_rng(0), {}
    _, group = np.unique(scenes, return_inverse=True)
    for name in (name for name in curves if name.startswith(("frame", "region", "crop"))):
        value = bd_rate(curves["codes"], curves[name], np.ones(len(scenes)))
        draws = []
        for _ in range(RESAMPLES):
            times = np.bincount(rng.integers(0, group.max() + 1, group.max() + 1), minlength=group.max() + 1)
            draws.append(bd_rate(curves["codes"], curves[name], times[group].astype(float)))
        known = np.array([draw for draw in draws if draw is not None])
        if value is None or len(known) < 0.95 * RESAMPLES:
            found[name] = f"no log-loss that both reach in {1 - len(known) / RESAMPLES:.0%} of the resamples"
            continue
        low, high = np.quantile(known, [0.025, 0.975])
        found[name] = f"{value:+.0%} [{low:+.0%}, {high:+.0%}]"
    return found


def bd_rate(ours: Curve, rival: Curve, weights: Float64Array) -> float | None:
    """Mean relative difference in bytes at equal log-loss; None where the two reach no loss in common."""
    inverse = [monotone(curve, weights) for curve in (ours, rival)]
    low = max(spans[1][0] for spans in inverse)
    high = min(spans[1][1] for spans in inverse)
    if high <= low:
        return None
    losses = np.linspace(low, high, 50)
    apart = inverse[0][0](losses) - inverse[1][0](losses)
    return float(np.exp(apart.mean()) - 1)


def monotone(curve: Curve, weights: Float64Array) -> tuple[Callable[[Float64Array], Float64Array], tuple[float, float]]:
    """Log bytes as a function of loss, and the span of losses: all points, their losses made to fall with bytes."""
    points = sorted((np.average(size, weights=weights), np.average(loss, weights=weights)) for size, _, loss in curve)
    sizes = np.log([max(size, 1.0) for size, _ in points])
    falling = isotonic_regression([loss for _, loss in points], increasing=False).x
    levels = np.unique(falling)
    middle = np.array([sizes[falling == level].mean() for level in levels])  # of settings that are told apart by noise
    return (lambda at: np.interp(at, levels, middle)), (float(levels[0]), float(levels[-1]))


if __name__ == "__main__":
    main()
