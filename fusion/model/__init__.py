"""The fusion model: cross-attention from item queries and latents to every sensor's tokens. Needs torch."""
