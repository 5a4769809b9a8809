"""What a chat server is asked when somebody wants to know why, and what its answer is worth as a rationale."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fusion.review.questions import question
from fusion.review.rationale import plain
from fusion.review.remote.question import Wishes
from fusion.task import Task
from fusion.types import SlotAnswer

_OF_THE_FORM = 12
"""Tokens of `{"because": ""}` and white space, besides the reason's own."""

_FORM = {
    "type": "json_schema",
    "json_schema": {
        "name": "reason",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"because": {"type": "string"}},
            "required": ["because"],
            "additionalProperties": False,
        },
    },
}


class Why:
    """The request for the reason of one verdict, answers given, in at most `max_tokens` tokens of its own."""

    def __init__(self, task: Task, model: str, answers: Mapping[str, SlotAnswer], max_tokens: int) -> None:
        verdict = json.dumps({slot: answer.option for slot, answer in answers.items()})
        asked = (
            f'{question(task)}\nThe answer was {verdict}. Say why in one short sentence, as JSON: {{"because": "..."}}'
        )
        self._text = {"type": "text", "text": asked}
        tokens = max_tokens + _OF_THE_FORM
        self._always = {"model": model, "temperature": 0, "max_tokens": tokens, "stream": False}

    def body(self, picture: str, wishes: Wishes) -> dict[str, Any]:
        """See `Question.body`; no probabilities are asked for."""
        content = [self._text, {"type": "image_url", "image_url": {"url": picture}}]
        body: dict[str, Any] = {**self._always, "messages": [{"role": "user", "content": content}]}
        return {**body, "response_format": _FORM} if wishes.schema else body


def reason_in(text: str) -> str:
    """The rationale in a server's answer, which may be cut off, in a fence, or no JSON at all."""
    begin = text.find("{")
    try:
        found, _ = json.JSONDecoder().raw_decode(text[begin:]) if begin >= 0 else (None, 0)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        because = found.get("because")
        return plain(because, cut=False) if isinstance(because, str) else ""
    _, mark, rest = text.partition('"because"')
    return plain(rest.lstrip(' :"') if mark else text, cut=bool(mark))
