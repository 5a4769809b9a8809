"""What other programs open: Rerun, Foxglove, tables, official result files."""
