"""The parts of `benchmarks/adapters.py`."""
