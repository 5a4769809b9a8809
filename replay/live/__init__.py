"""Replay against nodes that run as processes of their own, over a real link."""
