"""What is minimized: terms and their weights, and adversaries."""

