"""Items whose reviewer was lost while it scored them: some come again, some alone, and at last one is to blame."""

from __future__ import annotations

from collections import OrderedDict

from fusion.types import ItemId

ALONE_FROM = 2
"""An item of so many lost batches is reviewed alone from then on, so that it harms nobody else."""

MAX_LOSSES = 4
"""An item that ended so many replicas, the last ones alone, is poison."""

MAX_KNOWN = 4096
"""Items that are remembered, also while their device holds them back."""


class Losses:
    """Counts by item. The oldest are forgotten beyond `MAX_KNOWN`."""

    def __init__(self) -> None:
        self._counts: OrderedDict[ItemId, int] = OrderedDict()

    def add(self, item: ItemId) -> None:
        """One more batch with `item` was lost."""
        self._counts[item] = self._counts.pop(item, 0) + 1
        if len(self._counts) > MAX_KNOWN:
            self._counts.popitem(last=False)

    def forget(self, item: ItemId) -> None:
        """`item` came out of a batch."""
        self._counts.pop(item, None)

    def goes_alone(self, item: ItemId) -> bool:
        """Whether `item` may harm others."""
        return self._counts.get(item, 0) >= ALONE_FROM

    def is_poison(self, item: ItemId) -> bool:
        """Whether `item` is to blame."""
        return self._counts.get(item, 0) >= MAX_LOSSES
