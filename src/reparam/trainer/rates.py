"""A learning rate that is found rather than guessed: `adamw(lr=auto)`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import torch

from ..data.stream import Batches
from ..errors import UsageError
from ..parallel import Processes
from ..tensors import forked_rng
from .assembly import Assembly
from .budget import Budget
from .optim import default_rate, with_rate

STEPS = 120
"""Of the test."""
BELOW, ABOVE = 30.0, 100.0
"""How far below and above an optimizer's default rate the test begins and ends."""
WIDTH = 9
"""Steps whose losses are taken together."""
SHARE = 0.5
"""Of the rate at which the loss was lowest: beyond it the loss rises, and a long training bears less than a short one."""


def find_rate(assembly: Assembly, batches: Batches, precision: str, accelerator: Processes) -> float:
    """A rate for the optimizer of a recipe, by a range test: a copy of the model takes a few steps while the rate rises from
    far too low to far too high, and half of that at which its loss was lowest is taken. (Smith, 2017, arXiv:1506.01186)

    What is minimised is the objective as training ends with it: a KL that is only being switched on would hide what it will
    cost. Terms that read a critic are left out, and there is none. The steps are of the run's own first batches, as many
    whatever the machine, with random numbers from the recipe's seed: the same recipe finds the same rate. Several processes
    take them together. Leaves weights and random numbers alone.

    Raises:
        UsageError: the objective needs a critic, or no rate lowers it.
    """
    recipe = assembly.recipe
    low = default_rate(recipe.optimizer) / BELOW
    growth = (ABOVE * BELOW) ** (1 / (STEPS - 1))
    twin = assembly.copied(optimizer=with_rate(recipe.optimizer, low), schedule="constant", ema=0, compile="off")
    twin.objective, twin.adversary = assembly.objective.settled(), None
    losses: list[float] = []
    with forked_rng():
        torch.manual_seed(recipe.seed)
        for state in twin.training(batches, Budget(steps=STEPS, precision=precision), accelerator=accelerator):
            if state.rollbacks:
                break
            if losses or math.isfinite(state.loss):  # on a GPU the first are read some steps late
                losses.append(state.loss)
            state.lr_scale = growth**state.step
    lowest = lowest_at(losses)
    if not lowest:
        usual = with_rate(recipe.optimizer, default_rate(recipe.optimizer))
        raise UsageError(f"no learning rate from {low:.1g} on lowered the loss, so that lr=auto has found none: give a "
                         f"number, such as {usual}, and look at the data")
    return float(f"{SHARE * low * growth**lowest:.2g}")


def lowest_at(losses: Sequence[float]) -> int:
    """Where a noisy sequence is lowest: by the medians of its neighbourhoods, in which what is not finite is the worst."""
    known = [loss if math.isfinite(loss) else math.inf for loss in losses]
    half = WIDTH // 2
    smooth = [statistics.median(known[max(i - half, 0) : i + half + 1]) for i in range(len(known))]
    return min(range(len(smooth)), key=smooth.__getitem__) if smooth else 0
