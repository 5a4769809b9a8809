"""`edge-node top`: how a daemon does, on a terminal."""
