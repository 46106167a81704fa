"""Benchmarks: labd's speed and memory against something measured in the same run. `python -m tests.benchmarks`."""
