"""An item on its way from a device to its answer."""

from __future__ import annotations

from dataclasses import dataclass

from fusion.types import ItemId, ItemState


@dataclass(slots=True, eq=False)
class Item:
    """Times are nanoseconds of the simulation. `state` is what the device knows, `stored` what the ledger does.

    `limit_ns` is what was left of its deadline when it was last sent, as the wire tells it; None is none. One
    that `came` reached the service before.
    """

    id: ItemId
    born_ns: int
    value: float
    size: int
    sent: bool = False
    came: bool = False
    limit_ns: int | None = None
    deadline_ns: int | None = None
    state: ItemState = ItemState.PENDING
    stored: ItemState = ItemState.PENDING
    answered_ns: int = 0
