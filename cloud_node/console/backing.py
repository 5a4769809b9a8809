"""What the page stands on: a reader, a way to keep corrections, the live service where there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from cloud_node.ledger import Correction, LedgerReader
from cloud_node.overview import Snapshot
from fusion.codec import Profile
from fusion.errors import UnavailableError
from fusion.task import Task

ANSWER_S = 5.0
"""How long the service's loop may take to answer before a page says that it does not."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, eq=False)
class Backing:
    """`correct` keeps a correction or raises `FusionError`; `watched` is None where no service runs here, and gives
    rows of devices when it is called with `devices=True`.

    `tasks` are known by name, `profiles` (to decode maps with) by their fingerprint.
    """

    reader: LedgerReader
    correct: Callable[[Correction], Awaitable[None]]
    watched: Callable[..., Awaitable[Snapshot]] | None = None
    tasks: Mapping[str, Task] = field(default_factory=dict)
    profiles: Mapping[str, Profile] = field(default_factory=dict)


def on_loop(
    loop: asyncio.AbstractEventLoop, call: Callable[_P, Awaitable[_T]]
) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """`call`, which belongs to the service's `loop`, for awaiting on another.

    Raises `UnavailableError` when the loop does not answer in time.
    """

    async def ask(*arguments: _P.args, **named: _P.kwargs) -> _T:
        async def there() -> _T:
            return await call(*arguments, **named)

        asked = there()
        try:
            answered = asyncio.run_coroutine_threadsafe(asked, loop)
            return await asyncio.wait_for(asyncio.wrap_future(answered), ANSWER_S)
        except (TimeoutError, RuntimeError):
            asked.close() if loop.is_closed() else None
            raise UnavailableError("the service does not answer; try again in a moment") from None

    return ask
