"""Power and heat: what the board's own sensors tell."""

from edge_node.power.discovery import find_meter
from edge_node.power.meter import Measure, Meter
from edge_node.power.thermal import Thermals, find_thermals

__all__ = ["Measure", "Meter", "Thermals", "find_meter", "find_thermals"]
