"""Where the time of training goes: phases of a step, a trace for a viewer, and what the machine could do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import record_function
from torch.utils.flop_counter import FlopCounterMode

from .state import State

M = TypeVar("M", bound=nn.Module)
Phase = Callable[[str], AbstractContextManager[Any]]
"""Names what is done in a region."""
SKIPPED, STEPS = 20, 30
"""Steps before the first that is timed, and steps that are timed, first as they are and then phase by phase."""
FEWEST = SKIPPED + 2 * STEPS
"""Steps that a profile takes."""
SECONDS = 0.5
"""That the machine's own rate is measured for."""
BETWEEN = "between steps"
NOTHING: AbstractContextManager[None] = nullcontext()


def unnamed(name: str) -> AbstractContextManager[None]:
    """A region that nobody times."""
    return NOTHING


@dataclass
class Profile:
    """What was measured of a run's steps, once `found`.

    Attributes:
        phases: milliseconds a step, by phase; what is done between steps, such as logging and saving, among them.
        step: milliseconds a step as it is, with what lies between.
        images: per second.
        work: arithmetic of a step in GFLOP, where it is known.
        rates: GFLOP/s that this machine reaches in the same precision, in a matrix product and in a convolution.
    """

    trace: Path
    """A file for the trace."""
    precision: str = "float32"
    phases: dict[str, float] = field(default_factory=dict[str, float])
    step: float = 0.0
    images: float = 0.0
    work: float = 0.0
    rates: dict[str, float] = field(default_factory=dict[str, float])
    timing: bool = False
    _within: float = 0.0
    """Seconds of the phases within the one that lasts."""

    @property
    def found(self) -> bool:
        return self.step > 0

    @property
    def shares(self) -> dict[str, float]:
        """The share of each of the machine's rates that training reaches."""
        return {name: self.work / (self.step / 1000) / rate for name, rate in self.rates.items()} if self.work else {}

    @contextlib.contextmanager
    def _timed(self, name: str) -> Generator[None]:
        before, self._within, began = self._within, 0.0, time.perf_counter()
        with record_function(name):
            yield
            _wait()
        took = time.perf_counter() - began
        self.phases[name] = self.phases.get(name, 0.0) + 1000 * (took - self._within) / STEPS
        self._within = before + took

    def phase(self, name: str) -> AbstractContextManager[Any]:
        """A region of a step that is timed by itself, without the regions in it; a GPU is waited for at its end."""
        return self._timed(name) if self.timing else NOTHING

    def told(self) -> list[tuple[str, str, str]]:
        """Rows of a table: phase, milliseconds a step, share of a step; and what they come to."""
        total = sum(self.phases.values())
        rows = [(name, f"{ms:,.2f}", f"{ms / total:.0%}") for name, ms in self.phases.items()]
        return [("", "ms a step", "share"), *rows, ("a step, timed by phase", f"{total:,.2f}", ""),
                ("a step, left alone", f"{self.step:,.2f}", "")]

    def follow(self, states: Iterator[State[M]], batch_size: int) -> Iterator[State[M]]:
        """Passes on the states of training, and times some of its steps."""
        for _ in range(SKIPPED):
            if (state := next(states, None)) is None:
                return
            yield state
        _wait()
        began = time.perf_counter()
        for _ in range(STEPS):
            if (state := next(states, None)) is None:
                return
            yield state
        _wait()
        self.step = 1000 * (time.perf_counter() - began) / STEPS
        self.images = 1000 * batch_size / self.step
        yield from self._by_phase(states)
        self.rates = machine_rates(self.precision)
        yield from states

    def _by_phase(self, states: Iterator[State[M]]) -> Iterator[State[M]]:
        """Steps phase by phase, of which a trace is written."""
        inside, began = 0.0, time.perf_counter()
        with torch.profiler.profile() as profiler:
            for _ in range(STEPS):
                entered, self.timing = time.perf_counter(), True
                state = next(states, None)
                self.timing, inside = False, inside + time.perf_counter() - entered
                if state is None:
                    break
                yield state
            between = time.perf_counter() - began - inside
        self.phases["the rest of a step"] = max(1000 * inside / STEPS - sum(self.phases.values()), 0.0)
        self.phases[BETWEEN] = 1000 * between / STEPS
        profiler.export_chrome_trace(str(self.trace))


def operations(states: Iterator[State[M]]) -> float:
    """GFLOP of a step of training, which is taken; other kernels compute it than usual, so take one of a copy."""
    with FlopCounterMode(display=False) as counter:
        next(states)
    return counter.get_total_flops() / 1e9


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine_rates(precision: str, device: str | torch.device | None = None) -> dict[str, float]:
    """GFLOP/s of this machine, with torch's number of threads: a product of square matrices, and a 3×3 convolution with as
    many channels as deep networks have."""
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.ones(1024, 1024, dtype=dtype, device=where) for _ in range(2))
    x = torch.ones(64, 128, 14, 14, dtype=dtype, device=where).to(memory_format=torch.channels_last)
    w = torch.ones(128, 128, 3, 3, dtype=dtype, device=where).to(memory_format=torch.channels_last)
    with torch.no_grad():
        return {"matrix product": _rate(lambda: a @ b, 2 * 1024**3),
                "convolution": _rate(lambda: F.conv2d(x, w, padding=1), 2 * 64 * 14 * 14 * 128 * 128 * 9)}


def _rate(compute: Callable[[], Tensor], operations: float) -> float:
    compute()
    _wait()
    began, times = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS:
        compute()
        times += 1
    _wait()
    return operations * times / (time.perf_counter() - began) / 1e9
