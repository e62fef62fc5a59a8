"""A run: a folder that survives a kill, from data to report."""

