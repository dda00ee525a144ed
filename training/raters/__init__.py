"""Simulated raters, for the demo, tests and benchmarks."""
