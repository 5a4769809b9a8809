"""A chat server asked about many pictures at once: retries, a breaker, and what the server turned out not to have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from fusion.clock import Clock
from fusion.errors import FusionError, ModelError, UnavailableError
from fusion.review.remote.breaker import Breaker
from fusion.review.remote.name import RemoteName
from fusion.review.remote.question import Question, Wishes
from fusion.review.remote.reply import Reply
from fusion.review.remote.transport import RefusedError, Transport, TryAgainError

Sleep = Callable[[float], Awaitable[None]]
_BACK_OFF_S = 0.2


class _RefusesError(UnavailableError):
    """The server is there and refuses what it is asked; `said` is why."""

    def __init__(self, url: str, said: str) -> None:
        super().__init__(f"{url} refuses what it is asked: {said}")
        self.said = said


class Asks(Protocol):
    """What can be asked about a picture."""

    def body(self, picture: str, wishes: Wishes) -> dict[str, Any]:
        """The request, with what is in `wishes`."""


class ChatServer:
    """Asks one server. `sleep` waits between attempts, `jitter` gives 0..1 to spread them. All in one event loop."""

    def __init__(
        self, called: RemoteName, question: Question, clock: Clock, sleep: Sleep, jitter: Callable[[], float]
    ) -> None:
        self._called = called
        self._question = question
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._wishes = Wishes()
        self._answered = False
        self.breaker = Breaker(called.url, called.failures, round(called.open_s * 1e9), clock)
        self._transport = Transport(called.url, called.key(), called.concurrent, clock)

    async def ask(self, pictures: Sequence[str], asked: Asks | None = None) -> list[Reply | FusionError]:
        """The answer about each of `pictures` (data URLs), in order, or why there is none; the question is
        the task's, or `asked`.

        An `UnavailableError` is the server's fault, a `ModelError` the picture's: others are answered. A server that
        was left alone is asked about one after the other until it answers or is away.
        """
        asked = asked or self._question
        first = await self._try(pictures, asked)
        slots = asyncio.Semaphore(self._called.concurrent)

        async def in_turn(picture: str) -> Reply | FusionError:
            async with slots:
                return await self._row(picture, asked)

        return first + list(await asyncio.gather(*map(in_turn, pictures[len(first) :])))

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def _try(self, pictures: Sequence[str], asked: Asks) -> list[Reply | FusionError]:
        """What the server says of the first pictures while nobody knows whether it answers again."""
        first: list[Reply | FusionError] = []
        for picture in pictures:
            if not self.breaker.trying:
                break
            first.append(await self._row(picture, asked))
        if self.breaker.trying and first and isinstance(first[-1], _RefusesError):
            self.breaker.failed(f"refuses what it is asked: {first[-1].said}")
        if self.breaker.refusal is not None:
            return first
        return [self._to_blame(reply.said) if isinstance(reply, _RefusesError) else reply for reply in first]

    async def _row(self, picture: str, asked: Asks) -> Reply | FusionError:
        if (refusal := self.breaker.refusal) is not None:
            return UnavailableError(refusal)
        try:
            async with asyncio.timeout(self._called.timeout_s):
                reply = await self._answer(picture, asked)
        except ModelError as error:
            self.breaker.succeeded()
            return error
        except _RefusesError as error:
            if not self.breaker.trying:
                self.breaker.failed(f"refuses what it is asked: {error.said}")
            return error
        except (UnavailableError, TimeoutError) as error:
            reason = str(error) or f"gave no answer within {self._called.timeout_s:g} s"
        except Exception as error:  # noqa: BLE001 whatever a server does, its row comes again and its mates are answered
            reason = f"answers what cannot be read ({type(error).__name__}: {error})"
        else:
            self.breaker.succeeded()
            return reply
        self._answered = False
        self.breaker.failed(reason)
        return UnavailableError(f"{self._called.url} {reason}")

    async def _answer(self, picture: str, asked: Asks) -> Reply:
        """Try, and try again while there is time."""
        deadline_ns = self._clock.monotonic_ns() + round(self._called.timeout_s * 1e9)
        for attempt in range(self._called.retries):
            try:
                return await self._negotiate(picture, asked)
            except TryAgainError as error:
                wait_s = max(error.after_s, _BACK_OFF_S * 2**attempt * (0.5 + self._jitter()))
                if self._clock.monotonic_ns() + round(wait_s * 1e9) >= deadline_ns:
                    raise
            await self._sleep(wait_s)
        return await self._negotiate(picture, asked)

    async def _negotiate(self, picture: str, asked: Asks) -> Reply:
        """Ask, and where the server refuses the form of the request, ask for less and remember that it was enough."""
        wishes = self._wishes
        while True:
            try:
                reply = Reply.read(await self._transport.post(asked.body(picture, wishes)))
            except RefusedError as error:
                fewer = wishes.without(str(error))
                if fewer is None:
                    raise self._refusal(str(error)) from None
                wishes = fewer
            else:
                self._wishes = self._wishes.both(wishes)
                self._answered = True
                return reply

    def _refusal(self, said: str) -> FusionError:
        """A server that refuses whatever it is asked is not set up; one that answers others finds fault with this."""
        if self._answered:
            return self._to_blame(said)
        return _RefusesError(self._called.url, said)

    def _to_blame(self, said: str) -> ModelError:
        return ModelError(f"{self._called.url} refuses it: {said}")
