"""What benchmarks/auto.py measures."""
