"""A batch size that is found rather than guessed: `--batch-size auto`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from ..data.stream import Batches
from ..models.trace import Batch
from ..parallel import SingleProcess
from ..runtime import peak_memory
from ..tensors import forked_rng
from .assembly import Assembly
from .autotune import ROUNDS, agreed, speed
from .optim import default_rate, with_rate

FIRST, MOST = 32, 8192
PAYS = 1.1
"""Times as many images a second that a doubling has to give."""
ROOM = 0.5
"""Of the memory that is free, what a larger batch may take of it."""
PASSES = 16
"""Batches that all training images make, at least."""


@dataclass(frozen=True)
class Sizes:
    """What was measured."""

    rates: dict[int, float]
    """Images a second, by batch size, each twice the one before."""
    ended: str
    """Why none beyond was tried."""

    @property
    def best(self) -> int:
        """The largest that pays."""
        return max([next(iter(self.rates)), *(b for a, b in pairwise(self.rates) if self.rates[b] >= PAYS * self.rates[a])])


def find_batch_size(assembly: Assembly, stream: Callable[[Assembly], Batches], precision: str, accelerator: Accelerator
                    ) -> Sizes:
    """The largest batch that pays: sizes double as long as each gives a tenth more images a second, measured for a moment on
    copies of the model, and as long as there is memory for it. Of several processes each measures its own share of a
    batch, and they agree on the mean. Leaves weights and random numbers alone.

    Args:
        assembly: what is trained.
        stream: its images, for a recipe whose batch size is known.
        precision: 'float32' or 'bf16'.
        accelerator: where.
    """
    alone, processes = SingleProcess(accelerator.device), accelerator.num_processes
    rates, before = dict[int, float](), _taken(accelerator.device)
    usual = with_rate(assembly.recipe.optimizer, default_rate(assembly.recipe.optimizer))  # which may not be known yet
    twin = assembly.copied(batch_size=FIRST * processes, optimizer=usual)
    images = stream(twin)
    with forked_rng():
        batch = next(iter(images))
    size = FIRST * processes
    while True:
        own = _repeated(batch, size // processes)
        best = max(speed(torch.get_num_threads(), precision, twin, own, alone) for _ in range(ROUNDS))
        rates[size] = float(agreed(torch.tensor([best], device=accelerator.device), accelerator)) * size
        if size > FIRST * processes and rates[size] < PAYS * rates[size // 2]:
            return Sizes(rates, f"{size:,} would give {rates[size] / rates[size // 2] - 1:+.0%}")
        if 2 * size > MOST:
            return Sizes(rates, f"{size:,} is the most that is tried")
        if 2 * size * PASSES > images.count:
            return Sizes(rates, f"{images.count:,} images make fewer than {PASSES} of {2 * size:,}")
        grown = _taken(accelerator.device) - before  # of which as much again is needed
        short = torch.tensor([float(grown > ROOM * _free(accelerator.device))], device=accelerator.device)
        if float(agreed(short, accelerator)):
            return Sizes(rates, "twice as much does not fit in memory")
        size *= 2


def _taken(device: torch.device) -> float:
    """Bytes that this process has taken at most so far; 0 where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return 2**30 * (peak_memory() or 0.0)


def _free(device: torch.device) -> float:
    """Bytes that can still be had; without end where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return math.inf
    return 1024 * next((float(line.split()[1]) for line in lines if line.startswith("MemAvailable")), math.inf)


def _repeated(batch: Batch, n: int) -> Batch:
    """A batch of n, of the images of another one, in their order."""

    def stretched(x: Tensor) -> Tensor:
        return x.repeat(-(-n // len(x)), *[1] * (x.dim() - 1))[:n]

    return stretched(batch) if isinstance(batch, Tensor) else (stretched(batch[0]), stretched(batch[1]))
