"""What reading less under load is worth: verdicts in time at 80 to 200 % of capacity, with it and without.

    python benchmarks/thinning.py                 # 60 s of a virtual clock a row, seconds of a real one
    python benchmarks/thinning.py --seconds 10 --out out/thinning.json

The service's own admission, batcher, cost model and thinning run on a virtual clock; only the model is a formula:
a batch takes `BASE_NS` and `TOKEN_NS` a token. An item costs what it costs `mini:yard` (30 tokens; 22 without the
scene's; 6 without maps too; 2 x that and 36 with pixels), `UNCERTAIN` of them ask for pixels, which come after
`PIXELS_NS`.
Capacity is in items of full evidence, pictures included. Devices send by Poisson, one of them four times as much.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cloud_node.admission import Admission
from cloud_node.config import QueueSettings
from cloud_node.lanes.batcher import Batcher, Entry
from cloud_node.lanes.cost import CostModel
from cloud_node.thinning import Level, Thinning
from fusion.errors import OverloadedError
from fusion.types import ItemId, SampleId

BASE_NS, TOKEN_NS = 4_000_000, 40_000
BATCH_TOKENS, BATCH_ITEMS = 2048, 64
DEADLINE_NS = 1_000_000_000
PIXELS_NS = 30_000_000
UNCERTAIN = 0.3
DEVICES = 20
PRICES = {Level.ALL: 30, Level.NO_PICTURES: 30, Level.NO_SCENE: 22, Level.NO_MAPS: 6}
CROP = 36
QUEUE = QueueSettings(items=512, tokens=16_384, window=10_000)


@dataclass(slots=True)
class Outcomes:
    """How items ended, whose were answered in time, by what level, and what was read."""

    ends: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    in_time: Counter[str] = field(default_factory=Counter)
    levels: Counter[Level] = field(default_factory=Counter)
    tokens: int = 0
    waits_ns: list[int] = field(default_factory=list)
    last_level: Level = Level.ALL


def full_item_ns() -> float:
    """What one item of full evidence takes in a full batch, pictures included."""
    tokens = PRICES[Level.ALL] + UNCERTAIN * (2 * PRICES[Level.ALL] + CROP)
    rows = min(BATCH_ITEMS, BATCH_TOKENS / tokens)
    return BASE_NS / rows + TOKEN_NS * tokens


class Service:
    """One reviewer on a virtual clock."""

    def __init__(self, *, thins: bool) -> None:
        self.outcomes = Outcomes()
        self._cost = CostModel()
        for tokens in (64, BATCH_TOKENS):
            self._cost.observe(tokens, BASE_NS + TOKEN_NS * tokens)
        self._batcher = Batcher(
            max_tokens=BATCH_TOKENS, max_items=BATCH_ITEMS, max_delay_ns=4_000_000, predict_ns=self._cost.predict_ns
        )
        self._thinning = Thinning(enabled=thins)
        self._admission = Admission(QUEUE, self.drain_ns)
        self._levels: dict[ItemId, Level] = {}

    def drain_ns(self) -> int:
        """As `Lane.drain_ns`."""
        batches = -(-self._batcher.tokens // BATCH_TOKENS)
        return self._cost.predict_ns(min(self._batcher.tokens, BATCH_TOKENS)) * max(1, batches)

    def arrive(self, item: ItemId, now_ns: int) -> None:
        """An item comes from its device."""
        self.outcomes.sent[item.sample.device] += 1
        level = self._level(now_ns, now_ns + DEADLINE_NS)
        try:
            self._admission.enter(PRICES[level])
        except OverloadedError:
            self.outcomes.ends["shed"] += 1
            return
        self._levels[item] = level
        self._batcher.add(Entry(item, item.sample.device, PRICES[level], now_ns, now_ns + DEADLINE_NS))

    def arrive_again(self, entry: Entry) -> None:
        """An item's picture comes."""
        tokens = 2 * PRICES[self._levels[entry.item]] + CROP
        self._admission.enter_again(tokens)
        self._batcher.add(Entry(entry.item, entry.device, tokens, entry.arrival_ns, entry.deadline_ns))

    def decide(self, now_ns: int) -> tuple[tuple[Entry, ...], int | None]:
        """The batch to review now, and when to ask again."""
        decision = self._batcher.decide(now_ns)
        for entry in decision.expired:
            self._admission.leave(entry.tokens)
            self._end(entry, now_ns, "expired" if entry.tokens in PRICES.values() else "first answer")
        return decision.batch, decision.wake_ns

    def done(self, batch: tuple[Entry, ...], now_ns: int, rng: np.random.Generator) -> list[Entry]:
        """A batch ended; returns who is asked for a picture."""
        asked = []
        for entry in batch:
            self._admission.leave(entry.tokens)
            self.outcomes.tokens += entry.tokens
            first = entry.tokens in PRICES.values()
            assert entry.deadline_ns is not None
            if first and rng.random() < UNCERTAIN and self._level(now_ns, entry.deadline_ns) < Level.NO_PICTURES:
                asked.append(entry)
            else:
                self._end(entry, now_ns, "verdict")
        return asked

    def _level(self, now_ns: int, deadline_ns: int) -> Level:
        level = self._thinning.decide(self._admission.fill, self.drain_ns(), deadline_ns - now_ns)
        self.outcomes.last_level = self._thinning.level
        return level

    def _end(self, entry: Entry, now_ns: int, how: str) -> None:
        self.outcomes.ends[how] += 1
        if how == "expired":
            return
        self.outcomes.in_time[entry.device] += 1
        self.outcomes.levels[self._levels[entry.item]] += 1
        self.outcomes.waits_ns.append(now_ns - entry.arrival_ns)


def simulate(load: float, seconds: float, *, thins: bool, seed: int = 0) -> Outcomes:
    """Items at `load` of capacity for so long; then the queue empties, and a last few items come."""
    rng = np.random.default_rng(seed)
    service, events, number = Service(thins=thins), list(_arrivals(load, seconds, rng)), 0
    heapq.heapify(events)
    busy_until_ns, running, now_ns = 0, (), 0
    while events or running or service.drain_ns():
        batch, wake_ns = ((), None) if running else service.decide(now_ns)
        if batch:
            running = batch
            busy_until_ns = now_ns + BASE_NS + TOKEN_NS * sum(entry.tokens for entry in batch)
            continue
        times = [busy_until_ns] if running else [] if wake_ns is None else [wake_ns]
        times += [events[0][0]] if events else []
        if not times:
            break
        now_ns = max(now_ns, min(times))
        if running and now_ns >= busy_until_ns:
            for entry in service.done(running, now_ns, rng):
                number -= 1
                heapq.heappush(events, (now_ns + PIXELS_NS, number, entry))
            running = ()
        while events and events[0][0] <= now_ns:
            _, _, what = heapq.heappop(events)
            service.arrive_again(what) if isinstance(what, Entry) else service.arrive(what, now_ns)
    return service.outcomes


def _arrivals(load: float, seconds: float, rng: np.random.Generator) -> Any:
    """(time, number, item); the first device sends four times as much as any other."""
    rate = load / full_item_ns()
    shares = np.array([4.0] + [1.0] * (DEVICES - 1))
    count = round(rate * seconds * 1e9)
    times = np.sort(rng.integers(0, round(seconds * 1e9), count))
    senders = rng.choice(DEVICES, count, p=shares / shares.sum())
    quiet = round((seconds + 3) * 1e9) + 100_000_000 * np.arange(5)
    for number, (time_ns, device) in enumerate(zip([*times, *quiet], [*senders, *range(5)], strict=True), 1):
        yield int(time_ns), number, ItemId(SampleId(f"d{device}", "0123456789abcdef", number), 1)


def row_of(load: float, seconds: float, *, thins: bool) -> dict[str, Any]:
    """The figures of one run."""
    got = simulate(load, seconds, thins=thins)
    sent, served = sum(got.sent.values()), sum(got.in_time.values())
    shares = [got.in_time[device] / sent_here for device, sent_here in got.sent.items()]
    return {
        "load": load,
        "thins": thins,
        "goodput": served / (seconds * 1e9 / full_item_ns()),
        "shed": got.ends["shed"] / sent,
        "expired": got.ends["expired"] / sent,
        "worst_device": min(shares),
        "tokens_a_review": got.tokens / max(1, served),
        "p99_ms": float(np.quantile(got.waits_ns, 0.99)) / 1e6,
        "levels": {level.name.lower(): got.levels[level] / max(1, served) for level in Level},
    }


def main() -> None:
    """Print the table; `--out` keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.8, 1.2, 1.5, 2.0, 3.0, 5.0])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = [row_of(load, arguments.seconds, thins=thins) for load in arguments.loads for thins in (False, True)]
    print(
        "| load | thins | verdicts in time, of capacity | shed | expired | worst device | tokens | p99 ms | by level |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        levels = ", ".join(f"{name} {share:.0%}" for name, share in row["levels"].items() if share)
        print(
            f"| {row['load']:.0%} | {'yes' if row['thins'] else 'no'} | {row['goodput']:.2f} | {row['shed']:.1%} | "
            f"{row['expired']:.1%} | {row['worst_device']:.1%} | {row['tokens_a_review']:.0f} | {row['p99_ms']:.0f} | "
            f"{levels} |"
        )
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
