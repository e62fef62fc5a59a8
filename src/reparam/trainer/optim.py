"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Annotated

from torch import nn, optim

from ..parts import registry
from ..parts.ranges import above, at_least, between
from ..parts.registry import optimizer, schedule

Parameters = Iterable[nn.Parameter]
Rate = Annotated[float, above(0)]
Decay = Annotated[float, at_least(0, below=1, advice="betas are the decays of two running averages, such as (0.9, 0.99)")]
Betas = tuple[Decay, Decay]
Fraction = Annotated[float, between(0, 1)]
OPTIMIZERS = registry.optimizer.of(optim.Optimizer)


@optimizer("adamw")
def adamw(parameters: Parameters, lr: Rate = 2e-3, betas: Betas = (0.9, 0.99),
          weight_decay: Annotated[float, at_least(0)] = 0.0) -> optim.Optimizer:
    """Adam with decoupled weight decay, fused. (Loshchilov & Hutter, 2019, arXiv:1711.05101)"""
    return optim.AdamW(parameters, lr, betas, weight_decay=weight_decay, fused=True)


@optimizer("adam")
def adam(parameters: Parameters, lr: Rate = 1e-3, betas: Betas = (0.9, 0.999)) -> optim.Optimizer:
    """Adam, fused. (Kingma & Ba, 2015, arXiv:1412.6980)"""
    return optim.Adam(parameters, lr, betas, fused=True)


@optimizer("adamax")
def adamax(parameters: Parameters, lr: Rate = 2e-3, betas: Betas = (0.9, 0.999)) -> optim.Optimizer:
    """Adam with the infinity norm. (Kingma & Ba, 2015, section 7.1)"""
    return optim.Adamax(parameters, lr, betas)


Schedule = Callable[[float], float]
"""From progress in [0, 1] to the learning rate as a fraction of its peak."""
SCHEDULES: registry.Role[Schedule] = registry.schedule


def _warm(warmup: float, floor: float, decay: Schedule) -> Schedule:

    def factor(progress: float) -> float:
        if progress < warmup:
            return max(progress / warmup, 1e-3)
        return decay((progress - warmup) / max(1 - warmup, 1e-9))

    return factor


@schedule("cosine")
def cosine(warmup: Fraction = 0.05, floor: Fraction = 0.01) -> Schedule:
    """Linear rise over `warmup` of training, then half a cosine down to `floor`."""
    return _warm(warmup, floor, lambda t: floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(t, 1))))


@schedule("linear")
def linear(warmup: Fraction = 0.05, floor: Fraction = 0.01) -> Schedule:
    """Linear rise over `warmup` of training, then a straight line down to `floor`."""
    return _warm(warmup, floor, lambda t: 1 - (1 - floor) * min(t, 1))


@schedule("constant")
def constant(warmup: Fraction = 0.0) -> Schedule:
    """Linear rise over `warmup` of training, then level."""
    return _warm(warmup, 1.0, lambda t: 1.0)
