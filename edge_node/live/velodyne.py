"""Velodyne LiDARs: `velodyne://0.0.0.0:2368?model=vlp16` listens for one sensor's data packets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from edge_node.live.datagrams import Datagrams
from edge_node.live.drivers import Mount, address, query, shown
from fusion.errors import ConfigError
from fusion.recording.velodyne.models import MODELS, VelodyneModel
from fusion.recording.velodyne.sweeps import sweep
from fusion.recording.velodyne.turns import TurnGatherer
from fusion.types import Modality, Reading

PORT = 2368


class VelodyneDriver:
    """A sweep for each turn. Capture time is when the turn's first packet arrived on the host.

    Datagrams that are no data of the model, or are another sensor's while the first one sends, are counted and passed
    over; the first of each kind is logged.
    """

    modality = Modality.LIDAR

    def __init__(self, url: str, mount: Mount, model: VelodyneModel) -> None:
        self._mount, self._model = mount, model
        self._gatherer = TurnGatherer(model)
        self._datagrams = Datagrams(url, address(url, PORT), mount)

    @classmethod
    def open(cls, url: str, mount: Mount) -> Self:
        """Listen on the URL's address. Raises `ConfigError` for an unknown model, `SensorError` for a taken port."""
        name = query(url, ("model",)).get("model", "vlp16")
        if name not in MODELS:
            raise ConfigError(f"{shown(url)}: model {name!r} is not known; known: {', '.join(sorted(MODELS))}")
        return cls(url, mount, MODELS[name])

    def readings(self) -> Iterator[Reading]:
        """See `Driver`."""
        for data, arrived_ns in self._datagrams.arriving():
            if self._gatherer.knows(data):
                self._datagrams.keep()
            for turn in self._gatherer.push(data, arrived_ns):
                yield self._mount.reading(turn.arrived_ns, sweep(turn, self._model))
            self._datagrams.tell(self._gatherer.refused)

    def close(self) -> None:
        """See `Driver`."""
        self._datagrams.close()
