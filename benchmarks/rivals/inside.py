"""Part two: our scorer inside other servers, under an open-loop load with a deadline."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rivals import ours, process
from rivals.books import Books, Fate
from rivals.generator import fates_of
from rivals.plan import Plan, Told
from rivals.setting import Setting

OURS = "(g) cloud-node"
BY_HAND = ", queue bounded by hand"


@dataclass(frozen=True, slots=True)
class Level:
    """Offered load in percent of capacity; device 0 sends `hot_share` of it."""

    percent: float
    hot_share: float = 0.0

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"{self.percent:.0f} %" + (f", one device {self.hot_share:.0%}" if self.hot_share else "")


@dataclass(frozen=True, slots=True)
class Contest:
    """What all servers get. `margin_s` is what our devices keep of the deadline for the way back."""

    reviewer: str
    blobs: str
    devices: int
    deadline_s: float
    seconds: float
    capacity_seconds: float
    batch: int
    wait_ms: float
    threads: int
    margin_s: float


@dataclass(frozen=True, slots=True)
class Rival:
    """A server by name. `by_hand` bounds its queue for the deadline; `within` has our service run its reviewer itself,
    and not in a process of its own.
    """

    name: str
    module: str
    protocol: str
    path: str = ""
    by_hand: bool = False
    within: bool = False

    @property
    def ours(self) -> bool:
        """Whether it is `cloud-node`."""
        return not self.module

    def reviewer(self, name: str, threads: int) -> str:
        """How it is told to load the reviewer called `name`: one that it runs in a process by itself, or not."""
        return name if not self.ours or self.within else f"process:[{name}]?gpus=0&cpus={threads}"


RIVALS = (
    Rival(OURS, "", "stream"),
    Rival(OURS + ", one process", "", "stream", within=True),
    Rival("(d) collect N or wait", "rivals.collecting", "stream"),
    Rival("(d)" + BY_HAND, "rivals.collecting", "stream", by_hand=True),
    Rival("(e) LitServe", "rivals.lit", "json", "/predict"),
    Rival("(e)" + BY_HAND, "rivals.lit", "json", "/predict", by_hand=True),
    Rival("(f) Ray Serve", "rivals.ray_batch", "bytes", "/"),
    Rival("(f)" + BY_HAND, "rivals.ray_batch", "bytes", "/", by_hand=True),
)


class Inside:
    """Runs one rival at a time; keeps every fate, so that rounds are pooled."""

    def __init__(self, folder: Path, contest: Contest) -> None:
        self.capacity_s: float | None = None
        self.capacities: dict[str, list[float]] = {}
        self.fates: dict[tuple[str, str], list[Fate]] = {}
        self._offered: Counter[tuple[str, str]] = Counter()
        self.lags_ms: list[float] = []
        self.audits: list[dict[str, Any]] = []
        self._folder, self._contest, self._runs = folder, contest, 0

    def round(self, rival: Rival, levels: list[Level], number: int) -> None:
        """Start it, measure its capacity, offer every level. Raises `ServerError`."""
        with self._served(rival, number) as (address, ledger, metrics):
            capacity = self._capacity(rival, address)
            self.capacities.setdefault(rival.name, []).append(capacity)
            if self.capacity_s is None:
                self.capacity_s = capacity
            told = [(level, self._offer(rival, address, level, number)) for level in levels]
            ends = ours.submission_ends(metrics) if rival.ours else {}
        if rival.ours:
            self._audit(rival, ledger, told, ends, number)

    def books(self) -> list[dict[str, Any]]:
        """A row a rival and level, all rounds together."""
        limit, seconds = self._contest.deadline_s, self._contest.seconds
        rows = []
        for (name, level), fates in self.fates.items():
            books = Books.of(fates, seconds * self._offered[name, level], limit)
            if not books.adds_up:
                raise ValueError(f"the books of {name} at {level} do not add up: {books}")
            rows.append({"rival": name, "level": level, **books.as_json()})
        return rows

    @contextmanager
    def _served(self, rival: Rival, number: int) -> Iterator[tuple[str, Path, int]]:
        contest = self._contest
        slug = "".join(c for c in rival.name if c.isalnum())
        log, ledger, port = (
            self._folder / f"{slug}.log",
            self._folder / f"ledger-{slug}-{number}.db",
            process.free_port(),
        )
        if rival.ours:
            sets = [f"threads={contest.threads}", f"batch.items={contest.batch}"]
            sets += [f"batch.max_delay_ms={contest.wait_ms}"]
            command = ours.command(rival.reviewer(contest.reviewer, contest.threads), ledger, port, sets)
            with process.server(command, log, contest.threads) as address:
                yield address, ledger, port
            return
        setting = self._setting(rival, port)
        command = [sys.executable, "-m", rival.module, setting.model_dump_json()]
        health = f"http://127.0.0.1:{port}/health" if rival.protocol == "json" else None
        with process.server(command, log, contest.threads, health) as address:
            yield (f"http://127.0.0.1:{port}{rival.path}" if rival.path else address), ledger, port

    def _setting(self, rival: Rival, port: int) -> Setting:
        contest = self._contest
        given = Setting(
            reviewer=contest.reviewer, port=port, threads=contest.threads, batch=contest.batch, wait_ms=contest.wait_ms
        )
        if not rival.by_hand or self.capacity_s is None:
            return given
        batch_s = contest.batch / self.capacity_s
        room_s = max(batch_s, contest.deadline_s - 2 * batch_s)
        return given.model_copy(
            update={"most_waiting": max(1, int(room_s * self.capacity_s)), "queue_timeout_s": room_s}
        )

    def _capacity(self, rival: Rival, address: str) -> float:
        contest = self._contest
        window, seconds = 2 * contest.batch, contest.capacity_seconds
        plan = Plan(**self._common(rival, address), seconds=seconds, pattern="closed", window=window, warm_s=1.0)
        return Books.of(fates_of(process.run(plan)), seconds).goodput_s

    def _offer(self, rival: Rival, address: str, level: Level, number: int) -> Told:
        contest, self._runs = self._contest, self._runs + 1
        assert self.capacity_s is not None
        plan = Plan(
            **self._common(rival, address),
            seconds=contest.seconds,
            rate_s=self.capacity_s * level.percent / 100,
            hot_share=level.hot_share,
            deadline_s=contest.deadline_s,
            margin_s=contest.margin_s,
            seed=number,
        )
        told = process.run(plan)
        self.lags_ms.append(told.lag_ms)
        self.fates.setdefault((rival.name, level.name), []).extend(fates_of(told))
        self._offered[rival.name, level.name] += 1
        return told

    def _common(self, rival: Rival, address: str) -> dict[str, Any]:
        contest = self._contest
        return {
            "protocol": rival.protocol,
            "address": address,
            "blobs": contest.blobs,
            "devices": contest.devices,
        }

    def _audit(
        self, rival: Rival, ledger: Path, told: list[tuple[Level, Told]], ends: dict[str, float], number: int
    ) -> None:
        names = [f"device-{n:04d}" for n in range(self._contest.devices)]
        stored = ours.stored_of(ledger, [one.epoch for _, one in told])
        for level, one in told:
            found = ours.audit(stored[one.epoch], fates_of(one), names)
            self.audits.append(
                {"server": rival.name, "level": level.name, "round": number, **asdict(found), "adds_up": found.adds_up}
            )
        self.audits.append({"server": rival.name, "round": number, "submission_ends": ends})
