"""The parts of benchmarks/versus.py."""
