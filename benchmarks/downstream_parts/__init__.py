"""Parts of downstream.py: each one use of the codes."""
