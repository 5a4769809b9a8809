"""What `fusion perceive` does: a recording as a model sees it, in pictures and numbers."""
