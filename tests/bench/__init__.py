"""Benchmarks: `make bench`. They compare with a floor measured in the same run."""
