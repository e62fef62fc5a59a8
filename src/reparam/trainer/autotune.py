"""How fast this machine runs this model: threads and precision, measured rather than assumed.

A second busy process makes two threads wait for one another, which can cost a factor of fifty; bfloat16 is fast only
where the processor computes in it, and not for the smallest models. Both are tried for a moment, and the fastest wins.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Generator
from typing import cast

import torch
from accelerate import Accelerator

from ..errors import UsageError
from ..models.trace import Batch
from ..parallel import Processes, SingleProcess
from ..progress import Reporter
from ..runtime import Load, cores
from ..tensors import forked_rng
from .assembly import Assembly
from .budget import Budget

SECONDS_PER_TRIAL = 0.3
ROUNDS = 2
"""Trials of each option, in turn; the best counts, since other programs only ever slow one down."""


def choose(assembly: Assembly, batch: Batch, accelerator: Accelerator) -> tuple[int, str]:
    """Threads and precision for training on such batches, measured where the recipe leaves them open; sets the threads."""
    recipe = assembly.recipe
    threads = [recipe.threads] if recipe.threads else thread_counts(accelerator)
    precisions = [recipe.precision] if recipe.precision != "auto" else _precisions(accelerator)
    options = [(t, p) for t in threads for p in precisions]
    if len(options) > 1:
        each = SingleProcess(accelerator.device)  # in so long processes take different numbers of steps
        rates = torch.tensor([[_trial(t, p, assembly, batch, each) for t, p in options] for _ in range(ROUNDS)],
                             device=accelerator.device)
        best = options[int(agreed(rates.amax(0), accelerator).argmax())]
    else:
        best = options[0]
    torch.set_num_threads(best[0])
    return best


def agreed(rates: torch.Tensor, accelerator: Accelerator) -> torch.Tensor:
    """Means over the processes, which have to choose alike."""
    return cast(torch.Tensor, accelerator.reduce(rates, "mean")) if accelerator.num_processes > 1 else rates


def thread_counts(accelerator: Accelerator) -> list[int]:
    """The numbers of threads worth trying: every core's, and one."""
    each = max(cores() // accelerator.num_processes, 1)
    return sorted({1, each}, reverse=True) if accelerator.device.type == "cpu" else [each]


def check_threads(threads: int) -> None:
    """Refuses more threads than there are processors to run them, which would wait for one another without end."""
    most = cores()
    if threads > most:
        raise UsageError(f"threads={threads} is more than the {most} processor{'s' if most > 1 else ''} here: give {most} "
                         "at most, or 0, which measures and chooses")


def _precisions(accelerator: Accelerator) -> list[str]:
    if accelerator.device.type == "cuda":
        return ["bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"]
    if accelerator.device.type != "cpu":
        return ["float32"]
    return ["float32", "bf16"] if computes_in_bf16() else ["float32"]


def computes_in_bf16() -> bool:
    """Whether this processor does; without it bfloat16 costs three times the time of float32."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def _trial(threads: int, precision: str, assembly: Assembly, batch: Batch, accelerator: Processes) -> float:
    """Steps per second of a copy of the model. Leaves random numbers alone."""
    torch.set_num_threads(threads)
    budget = Budget(minutes=1e6, precision=precision)  # does not end, however slow a busy machine is
    loop = assembly.copied(ema=0).training(iter(lambda: batch, None), budget, accelerator=accelerator)
    with forked_rng():
        for _ in range(3):
            next(loop)
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < SECONDS_PER_TRIAL:
            next(loop)
            steps += 1
        return steps / (time.perf_counter() - began)


def threads_left(load: Load, most: int) -> int:
    """Threads that do not wait for other programs: as many as these leave processors free, at most `most`, at least one."""
    return max(1, min(most, round(load.free())))


@contextlib.contextmanager
def sharing(report: Reporter, most: int = 0) -> Generator[Reporter]:
    """A region in which torch's number of threads follows what other programs leave free, each time when something is told;
    at most `most` of them, by default as many as there are. It ends with as many as before."""
    before = torch.get_num_threads()
    try:
        yield _Sharing(report, most or before)
    finally:
        torch.set_num_threads(before)


class _Sharing(Reporter):
    """Passes on what it is told, and sets the number of threads."""

    def __init__(self, report: Reporter, most: int) -> None:
        self.report, self.most, self.load = report, most, Load()

    def _settle(self) -> None:
        if self.most > 1 and (threads := threads_left(self.load, self.most)) != torch.get_num_threads():
            torch.set_num_threads(threads)

    def say(self, text: str) -> None:
        self._settle()
        self.report.say(text)

    def count(self, what: str, done: int, total: int) -> None:
        self._settle()
        self.report.count(what, done, total)

    def step(self, fraction: float, line: Callable[[], str]) -> None:
        self._settle()
        self.report.step(fraction, line)


class ThreadTuner:
    """Keeps the number of threads right while a run lasts, since other programs come and go.

    Every half minute of training a few steps are taken with the other number of threads, and the faster one stays. They
    are steps of the training like any others, so trying costs next to nothing. Sums may differ in their last bit from
    one number of threads to another: a run whose end is counted in steps is therefore left alone.
    """

    EVERY, STEPS = 30.0, 6

    def __init__(self, most: int, fewest: int) -> None:
        self.most, self.fewest = most, fewest
        self.begin, self.last, self.usual = 0.0, 0.0, 0.0
        self.times: list[float] = []
        self.trying = False

    def note(self, seconds: float) -> None:
        """Takes in one step, at `seconds` of training; may change torch's number of threads."""
        duration, self.last = seconds - self.last, seconds
        if not self.trying and seconds - self.begin < self.EVERY:
            return
        self.times.append(duration)
        if len(self.times) < self.STEPS:
            return
        median = statistics.median(self.times[1:])
        self.times.clear()
        if not self.trying:
            self.usual = median
        if not self.trying or median > 0.9 * self.usual:
            torch.set_num_threads(self.fewest if torch.get_num_threads() == self.most else self.most)
        self.trying = not self.trying
        self.begin = seconds
