"""The commands."""

from .app import main, run

__all__ = ["main", "run"]
