"""Low-rank adaptation of reviewers: a small adapter of the language model learns, and is merged for serving."""
