"""A run as an MCAP file for Foxglove: what was recorded, and what both nodes made of it, on one timeline."""
