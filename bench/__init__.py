"""Benchmarks: ``make bench [ONLY=features|loop]``."""
