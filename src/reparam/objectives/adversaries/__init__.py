"""Adversaries: critics, their games, and penalties that keep critics smooth."""

