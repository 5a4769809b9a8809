"""The parts of `benchmarks/sensor_subsets.py`."""
