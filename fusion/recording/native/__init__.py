"""The native format: MCAP with the public Foxglove schemas."""
