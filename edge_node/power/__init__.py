"""Power and heat: what the board's own sensors tell, what a sample costs, and when to draw less."""

from edge_node.power.discovery import find_meter
from edge_node.power.energy import EnergyBook, Work
from edge_node.power.governor import Cause, Governor, Smoothed
from edge_node.power.meter import Measure, Meter
from edge_node.power.thermal import Thermals, find_thermals

__all__ = [
    "Cause",
    "EnergyBook",
    "Governor",
    "Measure",
    "Meter",
    "Smoothed",
    "Thermals",
    "Work",
    "find_meter",
    "find_thermals",
]
