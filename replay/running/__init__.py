"""Recordings through the nodes' own code: what to run, on what, with how many workers."""
