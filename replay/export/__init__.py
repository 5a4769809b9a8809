"""A run for other programs: files that viewers, data tools and the benchmarks' own evaluators open. Found by name."""
