"""What is to be run: recordings, the models, and the settings that differ from the nodes' defaults."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cloud_node.config import CloudSettings
from edge_node.config import EdgeSettings
from fusion.config import Settings, from_overrides
from fusion.errors import ConfigError
from fusion.task import Task
from replay.whatif.world import WorldSettings, check_world

SIDES = ("edge", "cloud", "world")


@dataclass(frozen=True, slots=True)
class Job:
    """One recording, or the stretch of it from `from_s` to `to_s` seconds after its first reading.

    `name` is its folder in the run and the only one of that name; `source` a path or a URL.
    """

    name: str
    source: str
    split: str = ""
    from_s: float = 0.0
    to_s: float | None = None


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
    """All of a run: every job under every variant."""

    task_name: str
    jobs: tuple[Job, ...]
    variants: tuple[Variant, ...] = (Variant(),)

    @cached_property
    def task(self) -> Task:
        """The task. Raises `ConfigError` for an unknown one."""
        return Task.load(self.task_name)

    def prepared(self, job: Job) -> list[Prepared]:
        """The nodes' settings for `job`, a variant each. Raises `ConfigError` naming the key that is wrong."""
        return [Prepared.of(self.task, job, variant) for variant in self.variants]

    def key(self, job: Job, variant: Variant) -> str:
        """Stands for a job's outcome: the same where everything that decides it is the same but the file's content."""
        parts = [self.task_name, job.source, job.split, str(job.from_s), str(job.to_s), variant.model_dump_json()]
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
        mine = [f"task={task.name}", f"source.path={job.source}", f"models={variant.models}", "device=replay"]
        mine += [f"source.split={job.split}"] if job.split else []
        reviewer = variant.reviewer or f"mini:{task.name}"
        edge = from_overrides(EdgeSettings, [*mine, *keys["edge"]])
        world = from_overrides(WorldSettings, keys["world"])
        check_world(world, task, edge)
        cloud = from_overrides(CloudSettings, [f'reviewers=["{reviewer}"]', *keys["cloud"]])
        return cls(variant, edge, cloud, world)


def check(plan: Plan) -> None:
    """Raise `ConfigError` for anything wrong in the settings before any work begins."""
    names: Sequence[str] = [variant.name for variant in plan.variants]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"two variants are called {twice[0]!r}; give each its own name")
    if not plan.jobs:
        raise ConfigError("nothing to run; give recordings")
    plan.prepared(plan.jobs[0])
