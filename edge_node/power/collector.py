"""Power as Prometheus metrics. What is not measured is absent, not zero."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from edge_node.power.watch import Power


class PowerCollector(Collector):
    """Tells what `power` last saw, whenever it is scraped."""

    def __init__(self, power: Power) -> None:
        self._power = power

    def collect(self) -> Iterator[Metric]:
        """The metrics there are now."""
        now = self._power.status
        if now.watts is not None:
            yield GaugeMetricFamily("fusion_edge_power_watts", f"Drawn by {now.covers}", value=now.watts)
        if now.joules is not None:
            told = f"Drawn by {now.covers} since the start, where it was measured"
            yield CounterMetricFamily("fusion_edge_energy_joules", told, value=now.joules)
        if now.temperatures:
            zones = GaugeMetricFamily("fusion_edge_temperature_celsius", "Thermal zones", labels=["zone"])
            for zone, celsius in now.temperatures.items():
                zones.add_metric([zone], celsius)
            yield zones
        if now.gear is not None:
            yield GaugeMetricFamily("fusion_edge_power_gear", "The governor's gear, 0 the highest", value=now.gear)
