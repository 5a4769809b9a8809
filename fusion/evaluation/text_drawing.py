"""Words in a picture that can be read on any ground."""

from __future__ import annotations

from collections.abc import Sequence

import cv2

from fusion.types import Box2D, UInt8Array

Colour = tuple[int, int, int]
"""RGB."""

WHITE: Colour = (235, 235, 235)
GREY: Colour = (170, 170, 170)
BACK: Colour = (18, 20, 24)
"""Behind everything."""
FONT = cv2.FONT_HERSHEY_SIMPLEX
TEXT = 0.45
"""Scale of ordinary text."""
_PLATE = 0.72
_MARGIN = 3


def draw_text(image: UInt8Array, text: str, place: tuple[int, int], colour: Colour, scale: float = TEXT) -> None:
    """`text` with its lower left corner at `place`, on a dark edge so that it can be read anywhere.

    The font has ASCII only; any other letter becomes a question mark.
    """
    plain = _plain(text)
    for across, down in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        cv2.putText(image, plain, (place[0] + across, place[1] + down), FONT, scale, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(image, plain, place, FONT, scale, colour, 1, cv2.LINE_AA)


def text_width(text: str, scale: float = TEXT) -> int:
    """Pixels that `text` takes."""
    return int(cv2.getTextSize(_plain(text), FONT, scale, 1)[0][0])


def draw_labels(
    picture: UInt8Array, labels: Sequence[tuple[tuple[int, int], str, Colour]], scale: float = TEXT
) -> None:
    """Write each text on a dark plate above its place; one that would cover one before it is left out."""
    taken: list[Box2D] = []
    for (left, top), text, colour in labels:
        (width, height), below = cv2.getTextSize(_plain(text), FONT, scale, 1)
        x = min(left, max(0, picture.shape[1] - width - 2 * _MARGIN))
        y = max(height + 2 * _MARGIN, top - below)
        place = Box2D(x, y - height - _MARGIN, x + width + 2 * _MARGIN, y + below)
        if all(place.iou(other) == 0 for other in taken):
            _plate(picture, place)
            cv2.putText(picture, _plain(text), (x + _MARGIN, y), FONT, scale, colour, 1, cv2.LINE_AA)
            taken.append(place)


def _plate(picture: UInt8Array, place: Box2D) -> None:
    """Darken a piece of `picture`."""
    part = picture[max(0, int(place.y1)) : int(place.y2) + 1, max(0, int(place.x1)) : int(place.x2) + 1]
    part[:] = (part * (1 - _PLATE)).astype(part.dtype)


def _plain(text: str) -> str:
    return text.encode("ascii", "replace").decode()
