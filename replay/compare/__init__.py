"""Two runs side by side: what changed, whether that is more than is allowed, and what it looks like it comes from."""
