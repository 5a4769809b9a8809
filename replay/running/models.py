"""Models that a worker has loaded, kept from one recording to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edge_node.config import EdgeSettings
from edge_node.models import camera_of, load_perception, model_folder
from edge_node.perception import ModelPerception
from fusion.review import Reviewer, load_reviewer
from fusion.synchronization import Synchronizer
from fusion.task import Task
from replay.running.verdicts import RememberingReviewer, Verdicts


@dataclass(slots=True)
class LoadedModels:
    """Loads what is asked for, once. Not thread-safe; a perception serves one pass at a time."""

    _perceptions: dict[str, ModelPerception] = field(default_factory=dict)
    _reviewers: dict[str, Reviewer] = field(default_factory=dict)
    verdicts: Verdicts = field(default_factory=Verdicts)

    def perception(self, task: Task, edge: EdgeSettings) -> ModelPerception:
        """The device's models, with nothing in mind. Raises `ModelError`."""
        camera = camera_of(task, Synchronizer.of_task(task, edge.synchronizer).reference)
        folder = model_folder(task, edge.models)
        key = f"{task.name}\n{camera}\n{folder}\n{edge.engine.model_dump_json()}"
        if key not in self._perceptions:
            self._perceptions[key] = load_perception(task, camera, folder, edge.engine)
        self._perceptions[key].forget()
        return self._perceptions[key]

    def reviewers(self, names: Sequence[str]) -> list[Reviewer]:
        """The service's reviewers by name; what they said is remembered. Raises `ConfigError` or `ModelError`."""
        for name in names:
            if name not in self._reviewers:
                self._reviewers[name] = RememberingReviewer(load_reviewer(name), self.verdicts)
        return [self._reviewers[name] for name in names]
