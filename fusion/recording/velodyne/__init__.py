"""Velodyne LiDARs: their packets, and captures of them."""
