"""Power and heat: what the board's own sensors tell, what a sample costs, and a governor that keeps to a budget."""

from edge_node.power.discovery import find_meter
from edge_node.power.energy import EnergyBook, Work
from edge_node.power.gearbox import Gearbox, GearedPerception, RateGate, check_gear
from edge_node.power.governor import Cause, Governor, Smoothed
from edge_node.power.meter import Measure, Meter
from edge_node.power.thermal import Thermals, find_thermals
from edge_node.power.watch import Power, Status

__all__ = [
    "Cause",
    "EnergyBook",
    "Gearbox",
    "GearedPerception",
    "Governor",
    "Measure",
    "Meter",
    "Power",
    "RateGate",
    "Smoothed",
    "Status",
    "Thermals",
    "Work",
    "check_gear",
    "find_meter",
    "find_thermals",
]
