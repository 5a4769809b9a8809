"""Live sensors as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from edge_node.live.health import SensorState
from edge_node.live.source import LiveSource


class SensorCollector(Collector):
    """Tells how the sensors of `source` stand, whenever it is scraped."""

    def __init__(self, source: LiveSource) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """The metrics there are now."""
        name = "fusion_edge_sensor_"
        state = GaugeMetricFamily(name + "state", "1 for the state a sensor is in", labels=["sensor", "state"])
        frames = CounterMetricFamily(name + "frames", "Readings that arrived", labels=["sensor"])
        restarts = CounterMetricFamily(name + "restarts", "Tries to open it again", labels=["sensor"])
        drops = CounterMetricFamily(name + "drops", "Readings not processed", labels=["sensor", "reason"])
        for sensor, now in self._source.told().items():
            for each in SensorState:
                state.add_metric([sensor, each.value], int(each == now["state"]))
            frames.add_metric([sensor], now["frames"])
            restarts.add_metric([sensor], now["restarts"])
            for reason, count in now["drops"].items():
                drops.add_metric([sensor, reason], count)
        clock = self._source.clock_told()
        steps = CounterMetricFamily("fusion_edge_clock_steps", "How often the host's clock was set", clock["steps"])
        unset = GaugeMetricFamily("fusion_edge_clock_unset", "1 while the host's clock was never set", clock["unset"])
        yield from (state, frames, restarts, drops, steps, unset)
