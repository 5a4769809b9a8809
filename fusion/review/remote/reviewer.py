"""`openai:`: a vision-language model behind an OpenAI-compatible chat server answers from pixels."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Self

import numpy as np

from fusion.clock import Clock, SystemClock
from fusion.errors import EvidenceError, FusionError, UnavailableError
from fusion.review.base import ANY_PROFILE, PreparedItem, RowsError, slot_answers
from fusion.review.rationale import CarryOn
from fusion.review.remote.name import RemoteName
from fusion.review.remote.question import Question, data_url
from fusion.review.remote.reply import Reply
from fusion.review.remote.server import ChatServer, Sleep
from fusion.review.remote.why import Why, reason_in
from fusion.review.temperatures import load_temperatures
from fusion.review.together import choose
from fusion.task import Task
from fusion.types import Evidence, Float64Array, SlotAnswer

_PIXELS_PER_TOKEN = 28
_LOOK_S = 0.05


class OpenAiReviewer:
    """Sends an item's crop to a server; the rows of a batch at the same time, over connections that are kept.

    Of an item without a crop it knows nothing: every option is as probable as another, so that the service, finding
    the answer unsure, asks the device for one. While the server is left alone such items fail, too: what would be sent
    could not be read. The weights are the server's, so `name` has a digest of the settings instead of theirs.
    """

    profiles = frozenset({ANY_PROFILE})
    elsewhere = True
    pixels_only = True

    def __init__(
        self,
        called: RemoteName,
        task: Task,
        *,
        clock: Clock | None = None,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.task = task
        self._fitted = load_temperatures(called.calibration, task, called.called)
        self.name = called.called + self._fitted.mark
        self._called = called
        question = Question(task, called.model)
        self._tokens = math.ceil(called.side / _PIXELS_PER_TOKEN) ** 2 + question.most_tokens
        self._server = ChatServer(called, question, clock or SystemClock(), sleep, jitter)
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)

    @classmethod
    def load(cls, argument: str) -> Self:
        """The reviewer `URL#MODEL?task=TASK`; the server need not be there yet. Raises `ConfigError`."""
        called = RemoteName.parse(argument)
        return cls(called, Task.load(called.task))

    def cost(self, evidence: Evidence) -> int:
        """About what the picture and the longest answer take; 1 without a picture."""
        return 1 if evidence.pixels is None else self._tokens

    def prepare(self, evidence: Evidence) -> PreparedItem:
        """Decode and check one row. Raises `EvidenceError`."""
        if evidence.task != self.task.name:
            raise EvidenceError(f"{evidence.item}: task {evidence.task!r} sent to a reviewer of {self.task.name!r}")
        crop = evidence.pixels
        picture = None if crop is None else data_url(crop, self._called.side, str(evidence.item))
        return PreparedItem(evidence.item, self.cost(evidence), picture, blind=picture is None)

    def score(self, batch: Sequence[PreparedItem]) -> list[dict[str, SlotAnswer]]:
        """Answer every slot of every row; not to be called inside a running event loop.

        Raises `RowsError` where a row has no answer; it has those of the others.
        """
        away = self._server.breaker.refusal
        pictures = [row.payload for row in batch if isinstance(row.payload, str)]
        replies = iter(self._runner.run(self._server.ask(pictures)) if pictures else ())
        rows = [self._row(next(replies) if row.payload is not None else away) for row in batch]
        answers = [row for row in rows if not isinstance(row, FusionError)]
        if len(answers) < len(rows):
            raise RowsError(rows)
        return answers

    def explain(
        self, row: PreparedItem, answers: Mapping[str, SlotAnswer], max_tokens: int, carry_on: CarryOn = lambda: True
    ) -> str:
        """See `Explains.explain`. Raises `UnavailableError` or `ModelError` where the server does not say."""
        if not isinstance(row.payload, str):
            return ""
        why = Why(self.task, self._called.model, answers, max_tokens)
        replies = self._runner.run(self._while(self._server.ask([row.payload], why), carry_on))
        match replies:
            case [FusionError() as error]:
                raise error
            case [Reply(text)]:
                return reason_in(text)
        return ""

    async def _while(
        self, asking: Coroutine[Any, Any, list[Reply | FusionError]], carry_on: CarryOn
    ) -> list[Reply | FusionError]:
        """What the server says, nothing when `carry_on` says no before."""
        task = asyncio.create_task(asking)
        while not task.done():
            if not carry_on():
                task.cancel()
                await asyncio.wait({task})
                return []
            await asyncio.wait({task}, timeout=_LOOK_S)
        return task.result()

    def close(self) -> None:
        """Close the connections; the reviewer cannot be used afterwards."""
        self._runner.run(self._server.close())
        self._runner.close()

    def _row(self, reply: Reply | FusionError | str | None) -> dict[str, SlotAnswer] | FusionError:
        match reply:
            case FusionError():
                return reply
            case str():
                return UnavailableError(reply)
            case Reply():
                return self._answers(reply.tables(self.task, self._called.confidence))
            case None:
                return self._answers([np.full(len(s.options), 1 / len(s.options)) for s in self.task.slots])

    def _answers(self, tables: Sequence[Float64Array]) -> dict[str, SlotAnswer]:
        rows = self._fitted.apply([table[None] for table in tables])
        return slot_answers(self.task, rows, choose(rows, None))[0]
