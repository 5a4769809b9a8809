"""Recordings of road traffic as training frames, and what learns from them."""
