"""The commands."""

