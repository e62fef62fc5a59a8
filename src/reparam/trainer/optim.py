"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from torch import nn, optim

from ..errors import UsageError
from ..parts import registry
from ..parts.registry import optimizer, schedule

Parameters = Iterable[nn.Parameter]
OPTIMIZERS = registry.optimizer.of(optim.Optimizer)


def _check(lr: float, betas: tuple[float, ...], weight_decay: float = 0.0) -> None:
    """Raises UsageError for numbers that no training could use."""
    if not 0 < lr < math.inf:
        raise UsageError(f"lr is the learning rate, a finite number above 0; got {lr}")
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise UsageError(f"betas are two decays of running averages, each at least 0 and below 1, such as (0.9, 0.99); got "
                         f"{betas}")
    if not 0 <= weight_decay < math.inf:
        raise UsageError(f"weight_decay is a finite number of at least 0; got {weight_decay}")


@optimizer("adamw")
def adamw(parameters: Parameters, lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.99),
          weight_decay: float = 0.0) -> optim.Optimizer:
    """Adam with decoupled weight decay, fused. (Loshchilov & Hutter, 2019, arXiv:1711.05101)"""
    _check(lr, betas, weight_decay)
    return optim.AdamW(parameters, lr, betas, weight_decay=weight_decay, fused=True)


@optimizer("adam")
def adam(parameters: Parameters, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999)) -> optim.Optimizer:
    """Adam, fused. (Kingma & Ba, 2015, arXiv:1412.6980)"""
    _check(lr, betas)
    return optim.Adam(parameters, lr, betas, fused=True)


@optimizer("adamax")
def adamax(parameters: Parameters, lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.999)) -> optim.Optimizer:
    """Adam with the infinity norm. (Kingma & Ba, 2015, section 7.1)"""
    _check(lr, betas)
    return optim.Adamax(parameters, lr, betas)


Schedule = Callable[[float], float]
"""From progress in [0, 1] to the learning rate as a fraction of its peak."""
SCHEDULES: registry.Role[Schedule] = registry.schedule


def _warm(warmup: float, floor: float, decay: Schedule) -> Schedule:
    if not 0 <= floor <= 1:
        raise UsageError(f"floor is a fraction of the peak, between 0 and 1; got {floor}")
    if not 0 <= warmup <= 1:
        raise UsageError(f"warmup is a fraction of training, between 0 and 1; got {warmup}")

    def factor(progress: float) -> float:
        if progress < warmup:
            return max(progress / warmup, 1e-3)
        return decay((progress - warmup) / max(1 - warmup, 1e-9))

    return factor


@schedule("cosine")
def cosine(warmup: float = 0.05, floor: float = 0.01) -> Schedule:
    """Linear rise over `warmup` of training, then half a cosine down to `floor`."""
    return _warm(warmup, floor, lambda t: floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(t, 1))))


@schedule("linear")
def linear(warmup: float = 0.05, floor: float = 0.01) -> Schedule:
    """Linear rise over `warmup` of training, then a straight line down to `floor`."""
    return _warm(warmup, floor, lambda t: 1 - (1 - floor) * min(t, 1))


@schedule("constant")
def constant(warmup: float = 0.0) -> Schedule:
    """Linear rise over `warmup` of training, then level."""
    return _warm(warmup, 1.0, lambda t: 1.0)
