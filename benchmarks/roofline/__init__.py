"""The parts of `benchmarks/large_roofline.py`."""
