"""Packet captures of Ouster sensors."""
