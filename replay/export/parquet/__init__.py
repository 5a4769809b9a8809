"""A run as Parquet tables."""
