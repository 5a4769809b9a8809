"""The uplink to the review service."""

from edge_node.uplink.diagnosis import LinkState
from edge_node.uplink.link import Uplink
from edge_node.uplink.session import Identity, Stream, UplinkCounts

__all__ = ["Identity", "LinkState", "Stream", "Uplink", "UplinkCounts"]
