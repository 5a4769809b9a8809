"""The page of a comparison: one HTML file with pictures of what changed, readable without a network."""
