"""Live sensors as a source: a driver a sensor, supervised, handed over without ever waiting for the pipeline."""

from edge_node.live.source import LiveSource

__all__ = ["LiveSource"]
