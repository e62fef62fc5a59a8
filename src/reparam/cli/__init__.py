"""The commands."""

from .app import app, main, run

__all__ = ["app", "main", "run"]
