"""Runs side by side."""

