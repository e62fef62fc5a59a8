"""Work whose pieces may fail one by one: a picture that cannot be drawn must not cost the model that it shows."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from .errors import ReparamError
from .reporting import Reporter, Silent


class Failure(TypedDict):
    """A piece of work that failed."""

    what: str
    why: str
    traceback: str
    """Where, for a report of the fault; '' of what reparam itself refuses."""


@dataclass
class Attempts:
    """Tries pieces of work, and keeps a list of those that failed.

    Example:
        attempt = Attempts(report)
        with attempt("drawing samples"):
            draw(samples)
        attempt.failures                       # empty when all went well
    """

    report: Reporter = field(default_factory=Silent)
    failures: list[Failure] = field(default_factory=list[Failure])

    @contextlib.contextmanager
    def __call__(self, what: str, *, instead_of: Path | None = None) -> Generator[None]:
        """A region that ends at its first error, which is told and listed; an interruption passes.

        `instead_of` is the file that the region was to replace: of a failure none stays, rather than one of an earlier
        state of the model.
        """
        try:
            yield
        except Exception as e:
            self.failed(what, e)
            if instead_of is not None:
                instead_of.unlink(missing_ok=True)

    def failed(self, what: str, error: Exception) -> None:
        """Tells and lists a failure."""
        expected = isinstance(error, ReparamError)
        why = " ".join(str(error).split())[:500] or type(error).__name__
        self.report.say(f"{what} failed, and is left out: {why}")
        self.failures.append({"what": what, "why": why if expected else f"{type(error).__name__}: {why}",
                              "traceback": "" if expected else "".join(traceback.format_exception(error))[-4000:]})
