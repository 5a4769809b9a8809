"""The evidence codec against general compressors on the same codes, and against pictures of the same regions.

    python benchmarks/codec.py                                        a synthetic profile, codes drawn from its tables
    python benchmarks/codec.py --weights fusion/weights/yard          a real profile, codes drawn from its tables
    python benchmarks/codec.py --weights fusion/weights/pcb --images DIR   real codes of real pictures

Times are one thread, median and 99th percentile over items; bytes are medians over items.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import zstandard

from fusion.codec import Profile, decode_maps, encode_maps, item_gate
from fusion.codec.synthetic import synthetic_maps, synthetic_profile
from fusion.types import BoolArray, Box2D, CellWindow, Int8Array, UInt8Array


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One item to code: whole maps, windows and gates; `region` (H, W, 3) RGB is its picture, if there is one."""

    maps: list[Int8Array]
    windows: tuple[CellWindow, ...]
    gates: list[BoolArray]
    region: UInt8Array | None = None


def drawn_items(profile: Profile, count: int) -> Iterator[Item]:
    """Objects of 4 to 40 % of the image's height, with codes from the tables (no two cells correlated)."""
    rng = np.random.default_rng(7)
    for seed in range(count):
        side = profile.image_height * rng.uniform(0.04, 0.4, 2)
        x, y = rng.uniform(0, profile.image_width - side[0]), rng.uniform(0, profile.image_height - side[1])
        scores = [np.zeros(profile.map_size(i), np.float32) for i in range(len(profile.levels))]
        windows, gates = item_gate(profile, Box2D(x, y, x + side[0], y + side[1]), scores)
        yield Item(synthetic_maps(profile, seed), windows, gates)


def detected_items(profile: Profile, weights: Path, images: Path, count: int) -> Iterator[Item]:
    """What the trunk itself finds in the pictures of a folder, at most 4 a picture."""
    from fusion.engines import load_engine
    from fusion.perception import DetectorStage
    from fusion.preparation import decode_image, letterbox
    from fusion.task import Task

    stage = DetectorStage(load_engine(weights / "detector.onnx", threads=1), Task.load(profile.task), profile)
    left = count
    for path in sorted(p for p in images.iterdir() if p.suffix in {".jpg", ".png", ".webp", ".bmp"}):
        image = decode_image(path.read_bytes())
        result = stage.run(image)
        pixels = letterbox(image.pixels, profile.image_width, profile.image_height)[0]
        for detection in result.detections[:4]:
            windows, gates = item_gate(profile, detection.box, result.cell_scores)
            fine, stride = windows[0], profile.levels[0].stride
            top, left_edge = fine.y * stride, fine.x * stride
            region = pixels[top : top + fine.height * stride, left_edge : left_edge + fine.width * stride]
            yield Item(result.maps, windows, gates, region)
            left -= 1
            if not left:
                return


def open_codes(item: Item) -> bytes:
    """The gate and the open cells' int8 codes, channel by channel: what a general compressor gets."""
    parts = [np.packbits(np.concatenate([gate.ravel() for gate in item.gates])).tobytes()]
    for whole, window, gate in zip(item.maps, item.windows, item.gates, strict=True):
        inside = whole[:, window.y : window.y + window.height, window.x : window.x + window.width]
        parts.append(inside[:, gate].tobytes())
    return b"".join(parts)


def whole_codes(item: Item) -> bytes:
    """Every int8 code of the image, which is what a device without a gate would send for each of its items."""
    return b"".join(m.tobytes() for m in item.maps)


def compressors() -> dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]]:
    """General compressors by name: (compress, decompress)."""
    fast, strong, reader = zstandard.ZstdCompressor(1), zstandard.ZstdCompressor(9), zstandard.ZstdDecompressor()
    found = {
        "zlib-6": (lambda data: zlib.compress(data, 6), zlib.decompress),
        "zstd-1": (fast.compress, reader.decompress),
        "zstd-9": (strong.compress, reader.decompress),
    }
    if find_spec("lz4"):
        import lz4.frame

        found["lz4"] = (lz4.frame.compress, lz4.frame.decompress)
    return found


class Table:
    """Rows of a printed table: bytes and times a name."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[int, float, float]]] = {}

    def measure(
        self, name: str, encode: Callable[[], Any], decode: Callable[[Any], Any], size: Callable[[Any], int]
    ) -> None:
        """Encode and decode once, and note bytes and milliseconds."""
        started = time.perf_counter_ns()
        encoded = encode()
        middle = time.perf_counter_ns()
        decode(encoded)
        ended = time.perf_counter_ns()
        self.rows.setdefault(name, []).append((size(encoded), (middle - started) / 1e6, (ended - middle) / 1e6))

    def print(self) -> None:
        """Write the table to the console."""
        print(f"{'':34}{'bytes p50':>10}{'p95':>9}{'enc ms p50':>12}{'p99':>8}{'dec ms p50':>12}{'p99':>8}")
        for name, rows in self.rows.items():
            size, encode, decode = np.array(rows).T
            print(
                f"{name:34}{np.median(size):10.0f}{np.percentile(size, 95):9.0f}{np.median(encode):12.3f}"
                f"{np.percentile(encode, 99):8.3f}{np.median(decode):12.3f}{np.percentile(decode, 99):8.3f}"
            )


def measure_pictures(table: Table, region: UInt8Array) -> None:
    """JPEG and WebP of the same region."""
    bgr = cv2.cvtColor(region, cv2.COLOR_RGB2BGR)
    for name, suffix, options in (
        ("JPEG q75 of the region", ".jpg", [cv2.IMWRITE_JPEG_QUALITY, 75]),
        ("WebP q50 of the region", ".webp", [cv2.IMWRITE_WEBP_QUALITY, 50]),
    ):
        table.measure(
            name,
            lambda suffix=suffix, options=options: cv2.imencode(suffix, bgr, options)[1],
            lambda data: cv2.imdecode(data, cv2.IMREAD_COLOR),
            len,
        )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="a folder with profile.json, profile.npz (and detector.onnx)")
    parser.add_argument("--images", type=Path, help="a folder of pictures for real codes")
    parser.add_argument("--items", type=int, default=300)
    arguments = parser.parse_args()
    if arguments.images and not arguments.weights:
        parser.error("--images needs --weights")
    cv2.setNumThreads(1)
    profile = Profile.load(arguments.weights) if arguments.weights else synthetic_profile()
    if arguments.images:
        items = detected_items(profile, arguments.weights, arguments.images, arguments.items)
    else:
        items = drawn_items(profile, arguments.items)
    table = Table()
    cells = []
    general = compressors()
    for item in items:
        cells.append([int(gate.sum()) for gate in item.gates])
        gated = partial(encode_maps, profile, item.maps, item.windows, item.gates)
        table.measure("gate + rANS (ours)", gated, partial(decode_maps, profile), lambda g: g.byte_size)
        codes, everything = open_codes(item), whole_codes(item)
        for name, (compress, decompress) in general.items():
            table.measure(f"gate + int8 + {name}", partial(compress, codes), decompress, len)
        compress, decompress = general["zstd-1"]
        table.measure("whole maps int8 + zstd-1", partial(compress, everything), decompress, len)
        if item.region is not None and item.region.size:
            measure_pictures(table, item.region)
    if not cells:
        parser.error(f"nothing was detected in {arguments.images}")
    middle = [round(v) for v in np.median(cells, axis=0)]
    source = "real codes" if arguments.images else "codes drawn from the tables"
    print(
        f"profile {profile.sha256[:12]} ({profile.task}), {len(cells)} items, {source}; open cells a level p50 {middle}"
    )
    table.print()


if __name__ == "__main__":
    main()
