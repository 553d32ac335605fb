"""Benchmarks: ``python -m perf``. Extra ``perf``."""
