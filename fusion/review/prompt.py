"""What the reviewer reads besides evidence: its tokenizer, the prompt, a marker a slot, one token an option."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fusion.errors import ModelError
from fusion.task import Task

PAD, BEGIN, END, UNKNOWN, IMAGE = "<pad>", "<s>", "</s>", "<unk>", "<image>"
_WORD = r"<[a-z:/][a-z0-9:\-]*>|[A-Za-z0-9][A-Za-z0-9\-]*|\{\"|\":\"|\",\"|\"\}|[^\sA-Za-z0-9]"
_MARKER = re.compile(r"<slot:[a-z0-9-]+>")
_JSON_PIECES = ('{"', '":"', '","', '"}')


def marker(slot: str) -> str:
    """The token at whose position a slot's answer is read."""
    return f"<slot:{slot}>"


def prompt_text(task: Task) -> str:
    """The part every review of a task shares: its prompt, then each slot's question with its options."""
    questions = [f"{slot.name}: {slot.question} {', '.join(slot.options)}." for slot in task.slots]
    return " ".join([BEGIN, task.prompt, *questions])


def build_tokenizer(task: Task, known: Any = None) -> Any:
    """A word-level Hugging Face tokenizer (`PreTrainedTokenizerFast`) that knows the task's words, and JSON's marks.

    What the tokenizer `known` knows keeps its id; new words come behind.
    """
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import PreTrainedTokenizerFast

    ids = {} if known is None else known.get_vocab()
    before = sorted(ids, key=ids.__getitem__)
    markers = [*(word for word in before if _MARKER.fullmatch(word)), *(marker(slot.name) for slot in task.slots)]
    special = [PAD, BEGIN, END, UNKNOWN, IMAGE, *dict.fromkeys(markers)]
    words = dict.fromkeys(before)
    words.update(dict.fromkeys([*special, *_JSON_PIECES, *re.findall(_WORD, prompt_text(task))]))
    words.update(dict.fromkeys(option for slot in task.slots for option in slot.options))
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Split(Regex(_WORD), "removed", invert=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=special[4:],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


@dataclass(frozen=True, slots=True)
class PromptIds:
    """Token ids: the shared prefix, a marker a slot, and each slot's options, all in the task's order."""

    prefix: tuple[int, ...]
    markers: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]
    image: int

    @classmethod
    def of(cls, task: Task, tokenizer: Any) -> PromptIds:
        """Look the task's words up. Raises `ModelError` when the tokenizer does not have one of them as one token."""
        options = tuple(tuple(_one(tokenizer, option) for option in slot.options) for slot in task.slots)
        markers = tuple(_one(tokenizer, marker(slot.name)) for slot in task.slots)
        prefix: Sequence[int] = tokenizer.encode(prompt_text(task), add_special_tokens=False)
        return cls(tuple(prefix), markers, options, _one(tokenizer, IMAGE))


def _one(tokenizer: Any, word: str) -> int:
    ids = tokenizer.encode(word, add_special_tokens=False)
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        raise ModelError(f"the reviewer's tokenizer does not have {word!r} as one token; it was made for another task")
    return int(ids[0])
