"""What a pretrained model reads around the evidence: its own chat template, the task's questions, the label tree."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any

from PIL import Image as Picture

from fusion.errors import ModelError
from fusion.review.folder import first_line
from fusion.review.hub.label_tree import LabelTree, build_tree
from fusion.review.questions import question
from fusion.task import Task


@dataclass(frozen=True, slots=True, eq=False)
class HubPrompt:
    """Token ids before and after the visual tokens, how many of those a picture has, and the tree of answers.

    `chat` is the same as text, with the picture's mark in it.
    """

    chat: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    picture_tokens: int
    tree: LabelTree


def stems(task: Task) -> list[str]:
    """How an answer to each slot begins. Slots are asked side by side, so each is the first of its own object."""
    return [f'{{{json.dumps(slot.name)}: "' for slot in task.slots]


def build_prompt(task: Task, processor: Any, image_token: int, side: int, *, image_first: bool) -> HubPrompt:
    """The prompt of `task` for pictures of `side` x `side` pixels.

    Questions come before the picture, so that they are in what all rows share; `image_first` turns that round.
    Raises `ModelError` where the processor spreads one picture over several places.
    """
    parts = [{"type": "text", "text": question(task)}, {"type": "image"}]
    chats = [[{"role": "user", "content": parts[::-1] if image_first else parts}]]
    if not image_first:  # some templates put pictures first; in a turn of their own questions stay before them
        chats.append([{"role": "system", "content": parts[:1]}, {"role": "user", "content": parts[1:]}])
    around = _around(processor, chats[0], image_token, side)
    if len(around.before) < len(around.after) and chats[1:]:
        with contextlib.suppress(ModelError):
            around = _around(processor, chats[1], image_token, side)
    tokenizer = processor.tokenizer

    def tokenize(answer: str) -> list[int]:
        return [int(token) for token in tokenizer.encode(answer, add_special_tokens=False)]

    tree = build_tree(stems(task), [slot.options for slot in task.slots], tokenize)
    return HubPrompt(around.text, around.before, around.after, around.picture, tree)


def special_tokens(processor: Any, text: str) -> bool:
    """Whether the tokenizer has to add its own beginning: not where the chat template wrote it."""
    begin = processor.tokenizer.bos_token
    return begin is not None and not text.startswith(begin)


@dataclass(frozen=True, slots=True)
class _Around:
    """A chat as text, its tokens before and after the picture, and how many that has."""

    text: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    picture: int


def _around(processor: Any, chat: list[dict[str, Any]], image_token: int, side: int) -> _Around:
    try:
        text = processor.apply_chat_template(chat, add_generation_prompt=True)
        picture = [Picture.new("RGB", (side, side), "grey")]
        ids = processor(text=text, images=picture, add_special_tokens=special_tokens(processor, text))
    except Exception as error:  # noqa: BLE001 templates raise what they like
        raise ModelError(f"its processor has no usable chat template ({first_line(error)})") from None
    row = [int(token) for token in _first(ids["input_ids"])]
    places = [index for index, token in enumerate(row) if token == image_token]
    if not places or places != list(range(places[0], places[-1] + 1)):
        raise ModelError(
            "its processor does not put a picture's tokens in one place; splitting of pictures must be off"
        )
    return _Around(text, tuple(row[: places[0]]), tuple(row[places[-1] + 1 :]), len(places))


def _first(rows: Any) -> list[Any]:
    return list(rows[0]) if isinstance(rows[0], list | tuple) or hasattr(rows[0], "__len__") else list(rows)
