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
from .compiling import CannotCompile, compiler_at_hand

SECONDS_PER_TRIAL = 0.3
ROUNDS = 2
"""Trials of each option, in turn; the best counts, since other programs only ever slow one down."""
WARM = 3
"""Steps before those that are timed."""
LEAST = 100.0
"""Seconds of training from which compiling may pay: its first step takes ten, and a step afterwards a sixth less."""


def choose(assembly: Assembly, batch: Batch, accelerator: Accelerator) -> tuple[int, str]:
    """Threads and precision for training on such batches, measured where the recipe leaves them open; sets the threads."""
    recipe = assembly.recipe
    threads = [recipe.threads] if recipe.threads else thread_counts(accelerator)
    precisions = [recipe.precision] if recipe.precision != "auto" else _precisions(accelerator)
    options = [(t, p) for t in threads for p in precisions]
    if len(options) > 1:
        each = SingleProcess(accelerator.device)  # in so long processes take different numbers of steps
        rates = torch.tensor([[speed(t, p, assembly, batch, each) for t, p in options] for _ in range(ROUNDS)],
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


class _Trial:
    """Steps of a copy of the model, which leave random numbers alone."""

    def __init__(self, assembly: Assembly, batch: Batch, processes: Processes, precision: str, *, compiles: bool = False
                 ) -> None:
        budget = Budget(minutes=1e6, precision=precision, compile=compiles)  # does not end, however slow a busy machine is
        self.loop = assembly.copied(ema=0).training(iter(lambda: batch, None), budget, accelerator=processes)

    def warm(self) -> None:
        """The first steps, which take longer than the others."""
        with forked_rng():
            for _ in range(WARM):
                next(self.loop)

    def rate(self) -> float:
        """Steps per second."""
        with forked_rng():
            began, steps = time.perf_counter(), 0
            while time.perf_counter() - began < SECONDS_PER_TRIAL:
                next(self.loop)
                steps += 1
            return steps / (time.perf_counter() - began)


def speed(threads: int, precision: str, assembly: Assembly, batch: Batch, processes: Processes) -> float:
    """Steps per second with so many threads."""
    torch.set_num_threads(threads)
    trial = _Trial(assembly, batch, processes, precision)
    trial.warm()
    return trial.rate()


def compiling_pays(assembly: Assembly, batch: Batch, accelerator: Accelerator, budget: Budget, report: Reporter) -> bool:
    """Whether training on such batches is over sooner with a compiled step, measured on copies; says in a line why.

    Not where no compiler is at hand, where training is too short for its first step, or beside other processes, whose
    exchanges a graph cannot hold.
    """
    if accelerator.num_processes > 1 or not compiler_at_hand(accelerator.device):
        return False
    processes, size = SingleProcess(accelerator.device), assembly.recipe.batch_size
    plain, made = (_Trial(assembly, batch, processes, budget.precision, compiles=compiles) for compiles in (False, True))
    plain.warm()
    seconds = budget.seconds(plain.rate())
    if seconds < LEAST:
        return False
    report.say("compiling the step, to see whether that pays")
    began = time.perf_counter()
    try:
        made.warm()
    except CannotCompile as e:
        report.say(f"not compiled: {e}")
        return False
    cost = time.perf_counter() - began
    before, after = (max(rates) for rates in zip(*((plain.rate(), made.rate()) for _ in range(ROUNDS)), strict=True))
    pays = seconds * (1 - before / after) > cost
    report.say(f"{'' if pays else 'not '}compiled: {after * size:,.0f} images/s instead of {before * size:,.0f}, for "
               f"{cost:.0f} s of compiling")
    return pays


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
