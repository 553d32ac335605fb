"""Benchmarks: ``python -m perf``, with the extra ``perf``."""
