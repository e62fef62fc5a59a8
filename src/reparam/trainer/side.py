"""One side of training, the model or its adversary: its parameters, what steps them and what guards the steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..parts.call import parse_call
from .flat import Flat
from .guard import Guard
from .optim import BY_SHAPE, OPTIMIZERS
from .schedule_free import ScheduleFree


class Side:
    """What learns.

    Args:
        parameters: those that are trained; none for an adversary without parameters of its own.
        optimizer: the call of one.
        clip: the guard's, see there.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], optimizer: str, clip: float) -> None:
        by_type: dict[torch.dtype, list[nn.Parameter]] = {}
        for p in parameters:
            by_type.setdefault(p.dtype, []).append(p)
        self.flats = [Flat(same) for same in by_type.values()]
        self.call = parse_call(optimizer)
        self.by_shape = self.call.name in BY_SHAPE
        stepped = [p for f in self.flats for p in (f.matrices if self.by_shape else [f.vector])]
        self.optimizer = self.make(stepped) if stepped else None
        self.peaks = [float(group["lr"]) for group in self.groups]
        self.guard = Guard(clip=clip)

    def make(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        """An optimizer of this kind."""
        return OPTIMIZERS.make(self.call, parameters)

    @property
    def groups(self) -> list[dict[str, float]]:
        return self.optimizer.param_groups if self.optimizer is not None else []

    def set_rate(self, factor: float) -> None:
        """Sets the learning rate to `factor` of its peak."""
        for group, peak in zip(self.groups, self.peaks, strict=True):
            group["lr"] = peak * factor

    def forget(self) -> None:
        """Drops the gradients."""
        for flat in self.flats:
            flat.forget()

    def gather(self) -> None:
        """Makes vectors of the gradients that a backward pass has left."""
        for flat in self.flats:
            flat.gather()

    @property
    def gradients(self) -> list[Tensor]:
        """The gathered gradients; none where no parameter has one."""
        return [flat.vector.grad for flat in self.flats if flat.vector.grad is not None]

    @property
    def averages(self) -> list[Tensor] | None:
        """The average of each vector of parameters that the optimizer itself keeps; None for most."""
        if not isinstance(self.optimizer, ScheduleFree):
            return None
        return [self.optimizer.average(flat.vector) for flat in self.flats]

    def step(self, scale: Tensor, skip: Tensor) -> None:
        """Steps the parameters by the gathered gradients divided by `scale` (1,), unless `skip` () is 1.

        Fused optimizers read both on the device; for others the host waits for them.
        """
        if self.optimizer is None:
            return
        for flat in self.flats if self.by_shape else []:
            flat.share()
        if getattr(self.optimizer, "_step_supports_amp_scaling", False):
            self.optimizer.grad_scale, self.optimizer.found_inf = scale, skip  # pyright: ignore[reportAttributeAccessIssue]
        elif skip:
            return
        else:
            for gradient in self.gradients:
                gradient /= scale
        self.optimizer.step()


class Verdict(NamedTuple):
    """What becomes of a step, on the device."""

    skip: Tensor
    """1 for a step that is not taken, ()."""
    scales: Tensor
    """What each side's gradient is divided by, (sides,)."""


def judge(numbers: Tensor, limits: Tensor) -> Verdict:
    """Judges a step where it was computed, without waiting for it: the formula of `Guard.judge`.

    Args:
        numbers: losses, and last the norm of each side's gradient, (n + sides,).
        limits: of each norm, (sides, 2), see `Guard.limits`.
    """
    norms = numbers[-len(limits) :]
    good = torch.isfinite(numbers).all() & (norms <= limits[:, 0]).all()
    return Verdict(1 - good.float(), (norms / limits[:, 1]).clamp(min=1))
