"""Benchmarks. `engine.py` measures the engine alone and needs no server and no harness."""
