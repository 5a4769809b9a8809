"""The simulated storage yard: camera, LiDAR and speech of a patrolling cart, with the truth."""

from fusion.simulation.patrol import simulate_patrol
from fusion.simulation.sample import SimulatedSample, Split, action_for
from fusion.simulation.scene import simulate_scene

__all__ = ["SimulatedSample", "Split", "action_for", "simulate_patrol", "simulate_scene"]
