"""What benchmarks/peers.py measures, part by part."""
