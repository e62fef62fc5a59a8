"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from torch import nn, optim

from .errors import UsageError
from .registry import optimizer, schedule

Parameters = Iterable[nn.Parameter]


@optimizer("adamw")
def adamw(parameters: Parameters, lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.99),
          weight_decay: float = 0.0) -> optim.Optimizer:
    """Adam with decoupled weight decay, fused. (Loshchilov & Hutter, 2019, arXiv:1711.05101)"""
    return optim.AdamW(parameters, lr, betas, weight_decay=weight_decay, fused=True)


@optimizer("adam")
def adam(parameters: Parameters, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999)) -> optim.Optimizer:
    """Adam, fused. (Kingma & Ba, 2015, arXiv:1412.6980)"""
    return optim.Adam(parameters, lr, betas, fused=True)


@optimizer("adamax")
def adamax(parameters: Parameters, lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.999)) -> optim.Optimizer:
    """Adam with the infinity norm. (Kingma & Ba, 2015, section 7.1)"""
    return optim.Adamax(parameters, lr, betas)


Schedule = Callable[[float], float]
"""From progress in [0, 1] to the learning rate as a fraction of its peak."""


def _warm(warmup: float, decay: Schedule) -> Schedule:
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
    return _warm(warmup, lambda t: floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(t, 1))))


@schedule("linear")
def linear(warmup: float = 0.05, floor: float = 0.01) -> Schedule:
    """Linear rise over `warmup` of training, then a straight line down to `floor`."""
    return _warm(warmup, lambda t: 1 - (1 - floor) * min(t, 1))


@schedule("constant")
def constant(warmup: float = 0.0) -> Schedule:
    """Linear rise over `warmup` of training, then level."""
    return _warm(warmup, lambda t: 1.0)
