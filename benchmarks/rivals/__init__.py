"""Servers that could review instead of ours, and the load that all of them get; see `serving_rivals.py`."""
