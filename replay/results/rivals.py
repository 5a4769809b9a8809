"""What the usual pictures of the same items would have cost: JPEG and WebP of the frame, and WebP of the region."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from fusion.types import Box2D, UInt8Array
from replay.results.frames import FrameView
from replay.results.records import ItemResult

JPEG_QUALITY = 75
WEBP_QUALITY = 50
_MARGIN = 0.2


@dataclass(slots=True)
class RivalBytes:
    """Bytes a sent item: `jpeg` q75 and `webp` q50 of the whole frame, `webp_crop` q50 of its region."""

    jpeg: list[int] = field(default_factory=list)
    webp: list[int] = field(default_factory=list)
    webp_crop: list[int] = field(default_factory=list)

    def add(self, other: RivalBytes) -> None:
        """Those of another recording, too."""
        self.jpeg += other.jpeg
        self.webp += other.webp
        self.webp_crop += other.webp_crop


def rival_bytes(items: Sequence[ItemResult], frames: Callable[[int], FrameView | None]) -> RivalBytes:
    """Encode the pictures of every item that was sent; `frames` is asked in rising order of time."""
    found = RivalBytes()
    shown: tuple[int, int, int] | None = None
    for item in sorted((item for item in items if item.evidence_bytes), key=lambda item: item.time_ns):
        view = frames(item.time_ns)
        if view is None or view.image is None:
            continue
        bgr = cv2.cvtColor(view.image.pixels, cv2.COLOR_RGB2BGR)
        if shown is None or shown[0] != item.time_ns:
            jpeg = _size(".jpg", bgr, cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
            shown = item.time_ns, jpeg, _size(".webp", bgr, cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY)
        found.jpeg.append(shown[1])
        found.webp.append(shown[2])
        found.webp_crop.append(_size(".webp", region(bgr, item.box), cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY))
    return found


def region(pixels: UInt8Array, box: Box2D) -> UInt8Array:
    """The part of a picture the evidence stands for: the box and a fifth of it around."""
    dx, dy = (box.x2 - box.x1) * _MARGIN, (box.y2 - box.y1) * _MARGIN
    height, width = pixels.shape[:2]
    x1, y1 = int(np.clip(box.x1 - dx, 0, width - 1)), int(np.clip(box.y1 - dy, 0, height - 1))
    x2, y2 = int(np.clip(box.x2 + dx, x1 + 1, width)), int(np.clip(box.y2 + dy, y1 + 1, height))
    return pixels[y1:y2, x1:x2]


def _size(suffix: str, bgr: UInt8Array, parameter: int, quality: int) -> int:
    done, encoded = cv2.imencode(suffix, bgr, [parameter, quality])
    assert done
    return len(encoded)
