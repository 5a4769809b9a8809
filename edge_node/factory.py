"""Pipelines as the settings say, for one run after another of one device."""

from __future__ import annotations

from collections.abc import Callable

from edge_node.config import EdgeSettings
from edge_node.perception import Perception
from edge_node.pipeline import Pipeline, Stages
from edge_node.screener import Screener
from edge_node.sources import Source
from edge_node.spool import Record, Resume
from edge_node.stamps import StampBook
from edge_node.tracker import Tracker
from fusion.clock import Clock
from fusion.errors import RecordingError
from fusion.synchronization import Synchronizer
from fusion.task import Task


class PipelineFactory:
    """Makes a pipeline a run or lap. The tracker lives on between them, so that no track number is used twice.

    `reference` is the sensor whose frames make samples, `stamps` what was wrong with stamps in all of them. Raises
    `RecordingError` when the source has nothing from the reference sensor.
    """

    def __init__(
        self, settings: EdgeSettings, task: Task, source: Source, perception: Perception, clock: Clock
    ) -> None:
        self.settings = settings
        self.stamps = StampBook(clock, continuous=source.continuous)
        self._task, self._source, self._perception, self._clock = task, source, perception, clock
        self.reference = Synchronizer.of_task(task, settings.synchronizer).reference
        if source.sensors and self.reference not in source.sensors:
            raise RecordingError(
                f"{settings.source.label}: nothing from the reference sensor {self.reference!r}; "
                f"it has {', '.join(sorted(source.sensors))}: set synchronizer.reference"
            )
        tracking = settings.tracker.tracks(continuous=source.continuous)
        self._tracker = Tracker(settings.tracker, enabled=tracking)
        self._screener = Screener(settings.screening, tracking=tracking)

    def count_tracks_from(self, track: int) -> None:
        """Give no new track a number below `track`."""
        self._tracker.count_from(track)

    def make(self, resume: Resume, sequence: int, epoch: str, store: Callable[[Record], object]) -> Pipeline:
        """A pipeline that goes on at `resume` with sample `sequence` of `epoch` and hands its records to `store`."""
        if not resume.state:
            self._tracker.forget()
            self._screener.forget()
        synchronizer = Synchronizer.of_task(self._task, self.settings.synchronizer)
        synchronizer.counts = self.stamps.counts
        return Pipeline(
            Stages(synchronizer, self._perception, self._tracker, self._screener), resume, store, self._clock,
            device=self.settings.device, epoch=epoch, sequence=sequence, rig=self._source.rig,
            overlap=self.settings.engine.overlap,
        )  # fmt: skip
