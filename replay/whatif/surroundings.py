"""What surrounds one lane in a what-if run: time, the link and the service in it, and what the device draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_node.perception import ModelPerception
from edge_node.spool import Spool
from edge_node.uplink import Identity
from fusion.review import Reviewer
from fusion.synchronization import Synchronizer
from fusion.task import Task
from replay.running.plan import Prepared
from replay.whatif.delivery import InTime
from replay.whatif.power import TimedPower
from replay.whatif.timing import VirtualTime


class Surroundings:
    """`time` and `power` are None where the settings ask for none. Close it before the lane."""

    def __init__(self, task: Task, one: Prepared) -> None:
        self._one = one
        self.time = VirtualTime() if one.world.in_time else None
        reference = Synchronizer.of_task(task, one.edge.synchronizer).reference
        self.power = TimedPower(one.edge.power, one.world.power, reference) if one.world.draws else None
        self._delivery: InTime | None = None

    def deliver(
        self, spool: Spool, perception: ModelPerception, reviewers: Sequence[Reviewer], ledger: Path
    ) -> InTime | None:
        """What takes the evidence out of `spool`; None where no time is to pass."""
        if self.time is None:
            return None
        identity = Identity(spool.device, spool.epoch, spool.task, perception.models, perception.profile)
        self._delivery = InTime(spool, identity, reviewers, ledger, self._one, self.time)
        return self._delivery

    def facts(self) -> dict[str, Any]:
        """What only the run itself knows, once it is over."""
        facts: dict[str, Any] = {}
        if self._delivery:
            facts["link"] = self._delivery.facts
        if self.power:
            facts["power"] = self.power.facts()
        return facts

    def close(self) -> None:
        """End what still runs."""
        if self.time:
            self.time.close()
        if self._delivery:
            self._delivery.close()
