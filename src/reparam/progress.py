"""What is told while work lasts and at its end: everything goes through `tell` or a `Reporter`, which show names as text."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO, TypedDict

from .errors import ProcessLost, ReparamError
from .runtime import GONE, process_number
from .text import for_terminal


def tell(*lines: str, error: bool = False) -> None:
    """Prints lines to stdout, or to stderr. Nobody there to read them is no reason to stop."""
    stream: TextIO | None = sys.stderr if error else sys.stdout
    if stream is None or stream.closed:
        return
    try:
        stream.write("".join(f"{for_terminal(line)}\n" for line in lines))
        stream.flush()
    except OSError as e:
        if e.errno not in GONE:
            raise


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Rows of a table as lines, columns two spaces apart; `right`: the columns whose cells end at one place."""
    from rich.cells import cell_len

    shown = [[for_terminal(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*shown, strict=True)]
    padded = [[" " * (w - cell_len(cell)) + cell if i in right else cell + " " * (w - cell_len(cell))
               for i, (cell, w) in enumerate(zip(row, widths, strict=True))] for row in shown]
    return ["  ".join(row).rstrip() for row in padded]


class Reporter(ABC):
    """Where a run says what it does."""

    @abstractmethod
    def say(self, text: str) -> None:
        """One line worth reading."""

    @abstractmethod
    def count(self, what: str, done: int, total: int) -> None:
        """Progress of work that is counted."""

    @abstractmethod
    def step(self, fraction: float, line: Callable[[], str]) -> None:
        """Progress of training, from 0 to 1, and what it says of itself, which is asked for only when it is shown."""


class Silent(Reporter):
    """Says nothing."""

    def say(self, text: str) -> None:
        return

    def count(self, what: str, done: int, total: int) -> None:
        return

    def step(self, fraction: float, line: Callable[[], str]) -> None:
        return


class Plain(Reporter):
    """Lines to stderr, a new one every `every` seconds at most."""

    def __init__(self, every: float = 10.0) -> None:
        self.every, self.last = every, 0.0

    def say(self, text: str) -> None:
        tell(text, error=True)

    def count(self, what: str, done: int, total: int) -> None:
        if self._due() or done == total:
            self.say(f"{what}: {done:,} of {total:,}")

    def step(self, fraction: float, line: Callable[[], str]) -> None:
        if self._due() or fraction >= 1:
            self.say(line())

    def _due(self) -> bool:
        due = time.monotonic() - self.last >= self.every
        self.last = time.monotonic() if due else self.last
        return due


class Live(Reporter):
    """A line on the terminal that is rewritten in place."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self.console = Console(stderr=True)
        self.live = RichLive(console=self.console, refresh_per_second=4, transient=True)
        self.running, self.last = False, 0.0

    def say(self, text: str) -> None:
        self._stop()
        self.console.print(for_terminal(text), markup=False, highlight=False, soft_wrap=True)

    def count(self, what: str, done: int, total: int) -> None:
        self._show(lambda: f"{what}: {done:,} of {total:,}", done == total)

    def step(self, fraction: float, line: Callable[[], str]) -> None:
        self._show(lambda: f"{'━' * round(24 * fraction):·<24} {line()}", fraction >= 1)

    def _show(self, text: Callable[[], str], last: bool) -> None:
        from rich.text import Text

        if time.monotonic() - self.last < 0.2 and not last:
            return
        self.last = time.monotonic()
        if not self.running:
            self.live.start()
            self.running = True
        self.live.update(Text(for_terminal(text())))
        if last:
            self._stop()

    def _stop(self) -> None:
        if self.running:
            self.live.stop()
            self.running = False


def for_this_terminal() -> Reporter:
    """A live line where there is a terminal, plain lines elsewhere. Of several processes the first alone reports."""
    if process_number():
        return Silent()
    stream: TextIO | None = sys.stderr
    return Live() if stream is not None and stream.isatty() else Plain()


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
    unavailable: dict[str, str] = field(default_factory=dict[str, str])
    """Why metrics that do not apply were not measured, in a few words, by the metric's name."""

    @contextlib.contextmanager
    def __call__(self, what: str, *, instead_of: Path | None = None) -> Generator[None]:
        """A region that ends at its first error, which is told and listed; an interruption passes.

        `instead_of` is the file that the region was to replace: of a failure none stays, rather than one of an earlier
        state of the model.
        """
        try:
            yield
        except ProcessLost:  # what follows would fail as well
            raise
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
