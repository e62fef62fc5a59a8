"""What is minimised: terms and their weights, and adversaries."""

