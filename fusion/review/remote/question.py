"""What a chat server is asked about one crop: the task's questions, the picture, and the form of the answer."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from fusion.review.crop import read_crop
from fusion.review.questions import question
from fusion.task import Task
from fusion.types import PixelCrop

TOP_LOGPROBS = (20, 5, 0)
"""How many alternatives of each token are asked for; the next where a server refuses so many."""
_SENT_AS_RECEIVED = ("jpeg", "png")
_JPEG_QUALITY = 92
_SPARE_TOKENS = 32
_OF_LOGPROBS = ("logprob", "top_n_tokens")
_OF_SCHEMA = ("response_format", "json_schema", "schema", "guided", "grammar", "structured")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a server may not have: answers held to a schema, and the `top` alternatives of each token."""

    schema: bool = True
    top: int = TOP_LOGPROBS[0]

    def without(self, refusal: str) -> Wishes | None:
        """What is left to try after a refusal in these words; None when nothing is left to do without."""
        words = refusal.lower()
        if self.top and any(word in words for word in _OF_LOGPROBS):
            return Wishes(self.schema, TOP_LOGPROBS[TOP_LOGPROBS.index(self.top) + 1])
        if self.schema:
            return Wishes(False, self.top)
        if self.top and not any(word in words for word in _OF_SCHEMA):
            return Wishes(False, 0)
        return None

    def both(self, other: Wishes) -> Wishes:
        """What is in this and in `other`."""
        return Wishes(self.schema and other.schema, min(self.top, other.top))


class Question:
    """The requests of one task. `most_tokens` bounds an answer: no token is shorter than a byte."""

    def __init__(self, task: Task, model: str) -> None:
        longest = {slot.name: max(slot.options, key=len) for slot in task.slots}
        self.most_tokens = len(json.dumps(longest, indent=2).encode()) + _SPARE_TOKENS
        self._text = {"type": "text", "text": question(task)}
        self._always = {"model": model, "temperature": 0, "max_tokens": self.most_tokens, "stream": False}
        self._form = {
            "type": "json_schema",
            "json_schema": {"name": "answers", "strict": True, "schema": _schema(task)},
        }

    def body(self, picture: str, wishes: Wishes) -> dict[str, Any]:
        """The request about `picture`, a data URL. Text comes first, so that servers can cache what all rows share."""
        content = [self._text, {"type": "image_url", "image_url": {"url": picture}}]
        body = {**self._always, "messages": [{"role": "user", "content": content}]}
        if wishes.schema:
            body["response_format"] = self._form
        if wishes.top:
            body |= {"logprobs": True, "top_logprobs": wishes.top}
        return body


def data_url(crop: PixelCrop, side: int, item: str) -> str:
    """`crop` as a data URL, scaled down where its longer side has more than `side` pixels. Raises `EvidenceError`.

    A small JPEG or PNG goes as it was received, after it was decoded to see that it is whole.
    """
    image = read_crop(crop, item)
    height, width = image.pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    encoding, encoded = image.encoding, crop.encoded
    if scale < 1 or encoding not in _SENT_AS_RECEIVED:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        scaled = cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA)
        bgr = np.ascontiguousarray(scaled[..., ::-1])
        encoding = "jpeg"
        encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
    return f"data:image/{encoding};base64,{base64.b64encode(encoded).decode()}"


def _schema(task: Task) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {slot.name: {"type": "string", "enum": list(slot.options)} for slot in task.slots},
        "required": [slot.name for slot in task.slots],
        "additionalProperties": False,
    }
