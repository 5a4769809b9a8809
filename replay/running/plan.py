"""What is to be run: recordings, the models, and the settings that differ from the nodes' defaults."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cloud_node.config import CloudSettings
from edge_node.config import EdgeSettings
from fusion.config import Settings, from_overrides, toml_string
from fusion.errors import ConfigError
from fusion.task import Task
from replay.running.modes.mode import LiveLink, Mode, check_keys
from replay.whatif.world import WorldSettings, check_world

SIDES = ("edge", "cloud", "world")
_ALL = 10**12


@dataclass(frozen=True, slots=True)
class Job:
    """One recording, or the stretch of it from `from_s` to `to_s` seconds after its first reading.

    `name` is its folder in the run and the only one of that name; `source` a path or a URL, of which a copy is kept in
    `cache` of at most `cache_bytes`. `mapping` are `SENSOR=TOPIC` texts. With `salvage` what is sound of a damaged
    recording is run. `evidence` is where recorded evidence of it lies, which is reviewed instead of running the device.
    """

    name: str
    source: str
    split: str = ""
    from_s: float = 0.0
    to_s: float | None = None
    mapping: tuple[str, ...] = ()
    salvage: bool = False
    cache: str = ""
    cache_bytes: int = 0
    evidence: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "mapping", tuple(self.mapping))  # a manifest has it as a list


class Variant(Settings):
    """One way to run every job: `sets` are `edge.KEY=VALUE`, `cloud.KEY=VALUE` and `world.KEY=VALUE`.

    `models` is a model folder (empty: the bundled one), `reviewer` a reviewer's name (empty: `mini:TASK`). A run of
    one variant has no name for it.
    """

    name: str = ""
    models: str = ""
    reviewer: str = ""
    sets: tuple[str, ...] = ()

    def split(self) -> Mapping[str, list[str]]:
        """The keys of each side, without their first word. Raises `ConfigError` for a side that is none."""
        found: dict[str, list[str]] = {side: [] for side in SIDES}
        for override in self.sets:
            side, _, rest = override.partition(".")
            if side not in found:
                raise ConfigError(f"--set {override}: keys begin with 'edge.', 'cloud.' or 'world.'")
            found[side].append(rest)
        return found

    @property
    def settings(self) -> dict[str, str]:
        """Everything that differs from the defaults, by key."""
        given = {"models": self.models, "reviewer": self.reviewer}
        keys = {key.strip(): value.strip() for key, _, value in (one.partition("=") for one in self.sets)}
        return {name: value for name, value in given.items() if value} | keys


@dataclass(frozen=True)
class Plan:
    """All of a run: every job under every variant. `live` is there exactly in live mode."""

    task_name: str
    jobs: tuple[Job, ...]
    variants: tuple[Variant, ...] = (Variant(),)
    mode: Mode = Mode.BOTH
    live: LiveLink | None = None

    @cached_property
    def task(self) -> Task:
        """The task. Raises `ConfigError` for an unknown one."""
        return Task.load(self.task_name)

    @property
    def task_place(self) -> str:
        """What another program finds the task by, wherever it runs: its name, or the whole path of its file."""
        path = Path(self.task_name)
        return str(path.resolve()) if path.suffix == ".toml" else self.task_name

    def prepared(self, job: Job) -> list[Prepared]:
        """The nodes' settings for `job`, a variant each. Raises `ConfigError` naming the key that is wrong."""
        return [Prepared.of(self.task, job, variant) for variant in self.variants]

    def key(self, job: Job, variant: Variant) -> str:
        """Stands for a job's outcome: the same where everything that decides it is the same but the file's content."""
        parts = [self.task_name, job.source, job.split, str(job.from_s), str(job.to_s), variant.model_dump_json()]
        parts += [*job.mapping, "salvage"] if job.salvage else job.mapping
        if self.mode is not Mode.BOTH:
            live = [self.live.address, f"{self.live.pace:g}"] if self.live else [""]
            parts += [self.mode, job.evidence, *live]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Prepared:
    """One job under one variant, in the nodes' own settings."""

    variant: Variant
    edge: EdgeSettings
    cloud: CloudSettings
    world: WorldSettings

    @classmethod
    def of(cls, task: Task, job: Job, variant: Variant) -> Prepared:
        """Raises `ConfigError` naming the key that is wrong."""
        keys = variant.split()
        texts = {"task": task.name, "source.path": job.source, "models": variant.models, "device": "replay"}
        texts |= {"source.split": job.split} if job.split else {}
        mine = [f"{key}={toml_string(text)}" for key, text in texts.items()]
        mine.append(f"spool.history_samples={_ALL}")
        reviewer = toml_string(variant.reviewer or f"mini:{task.name}")
        edge = from_overrides(EdgeSettings, [*mine, *keys["edge"]])
        world = from_overrides(WorldSettings, keys["world"])
        check_world(world, task, edge)
        cloud = from_overrides(CloudSettings, [f"reviewers=[{reviewer}]", *keys["cloud"]])
        return cls(variant, edge, cloud, world)


def check(plan: Plan) -> None:
    """Raise `ConfigError` for anything wrong in the settings before any work begins."""
    names: Sequence[str] = [variant.name for variant in plan.variants]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"two variants are called {twice[0]!r}; give each its own name")
    if not plan.jobs:
        raise ConfigError("nothing to run; give recordings")
    for variant in plan.variants:
        check_keys(plan.mode, variant.split(), models=variant.models, reviewer=variant.reviewer)
    for one in plan.prepared(plan.jobs[0]):
        if plan.mode is Mode.EDGE_ONLY and one.world.in_time:
            raise ConfigError("world.link, world.cloud: nothing is sent with --edge-only; leave them out")
