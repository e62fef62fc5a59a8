"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from importlib import import_module
from inspect import signature
from typing import Annotated, Any

from torch import nn, optim

from ..errors import UsageError
from ..parts import registry
from ..parts.call import AUTO, Call, parse_call
from ..parts.ranges import above, at_least, between
from ..parts.registry import optimizer, schedule
from .muon import Muon
from .schedule_free import ScheduleFree

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


@optimizer("adan")
def adan(parameters: Parameters, lr: Rate = 2e-3, betas: tuple[Decay, Decay, Decay] = (0.98, 0.92, 0.99),
         weight_decay: Annotated[float, at_least(0)] = 0.0) -> optim.Optimizer:
    """Adam with Nesterov's momentum, of gradients and of their differences. (Xie et al., 2022, arXiv:2208.06677)"""
    return _package().Adan(parameters, lr=lr, betas=betas, weight_decay=weight_decay, weight_decouple=True)


@optimizer("lion")
def lion(parameters: Parameters, lr: Rate = 3e-4, betas: Betas = (0.9, 0.99),
         weight_decay: Annotated[float, at_least(0)] = 0.0) -> optim.Optimizer:
    """The sign of a momentum: every weight moves by the learning rate, which is a tenth of Adam's. (Chen et al., 2023,
    arXiv:2302.06675)"""
    return _package().Lion(parameters, lr=lr, betas=betas, weight_decay=weight_decay)


@optimizer("muon")
def muon(parameters: Parameters, lr: Rate = 0.02, momentum: Decay = 0.95, adam_lr: Rate | None = None,
         weight_decay: Annotated[float, at_least(0)] = 0.0) -> optim.Optimizer:
    """Momentum whose matrices are made orthogonal, kernels of convolutions as matrices of outputs by the rest; biases and
    scales by AdamW with the rate `adam_lr`, by default a tenth of `lr`. (Jordan et al., 2024,
    kellerjordan.github.io/posts/muon)"""
    return Muon(parameters, lr, momentum, adam_lr or lr / 10, (0.9, 0.99), weight_decay)


@optimizer("soap")
def soap(parameters: Parameters, lr: Rate = 3e-3, betas: Betas = (0.95, 0.95),
         weight_decay: Annotated[float, at_least(0)] = 0.0,
         every: Annotated[int, at_least(1)] = 10, largest: Annotated[int, at_least(1)] = 512) -> optim.Optimizer:
    """Adam in the eigenbases of Shampoo's two matrices, which are turned `every` so many steps; sides of more than `largest`
    are left as they are. (Vyas et al., 2024, arXiv:2409.11321)"""
    made = _package().SOAP(parameters, lr=lr, betas=betas, weight_decay=weight_decay, precondition_frequency=every,
                           max_precondition_dim=largest)
    made.register_step_post_hook(_lay_out_bases)
    return made


def _lay_out_bases(optimizer: optim.Optimizer, *_: Any) -> None:
    """Bases as a file gives them back, row by row: products of the same numbers in another layout end otherwise."""
    for state in optimizer.state.values():
        state["Q"] = [q.contiguous() if len(q) else q for q in state["Q"]]


@optimizer("schedule_free")
def schedule_free(parameters: Parameters, lr: Rate = 2.5e-3, betas: Betas = (0.9, 0.99),
                  weight_decay: Annotated[float, at_least(0)] = 0.0) -> optim.Optimizer:
    """AdamW whose own average of all steps takes the place of a falling rate, and of `ema`: give it the schedule constant.
    (Defazio et al., 2024, arXiv:2405.15682)"""
    return ScheduleFree(parameters, lr, betas, weight_decay)


BY_SHAPE = ("muon", "soap")
"""Optimizers that see rows and columns; others step all parameters as one vector."""


def asks_rate(optimizer: str) -> bool:
    """Whether a call leaves its learning rate to be found, as 'adamw(lr=auto)' does."""
    call = parse_call(optimizer)
    return call.kwargs.get("lr") == AUTO or call.args[:1] == (AUTO,)


def with_rate(optimizer: str, rate: float) -> str:
    """The call with another learning rate."""
    call = parse_call(optimizer)
    if call.args:
        return str(Call(call.name, (rate, *call.args[1:]), call.kwargs))
    return str(Call(call.name, (), {**call.kwargs, "lr": rate}))


def rate_of(optimizer: str) -> float:
    """The learning rate of a call, its default where it names none.

    Raises:
        UsageError: an unknown optimizer, or one without a rate of that name.
    """
    call = parse_call(optimizer)
    return float(call.args[0] if call.args else call.kwargs.get("lr", default_rate(optimizer)))


def default_rate(optimizer: str) -> float:
    """The rate that an optimizer has by default.

    Raises:
        UsageError: an unknown optimizer, or one without a rate of that name.
    """
    call = parse_call(optimizer)
    OPTIMIZERS.check(Call(call.name))
    lr = signature(OPTIMIZERS.parts[call.name]).parameters.get("lr")
    if lr is None or not isinstance(lr.default, float):
        raise UsageError(f"the optimizer {call.name} has no learning rate lr by default, from which one could be found")
    return lr.default


def _package() -> Any:
    try:
        return import_module("pytorch_optimizer")
    except ImportError as e:
        raise UsageError('the optimizers adan, lion and soap need a package: pip install "reparam[optimizers]"') from e


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
