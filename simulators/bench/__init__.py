"""Benchmarks that anyone can run: each starts what it needs on loopback, bounded, and ends with one JSON line."""
