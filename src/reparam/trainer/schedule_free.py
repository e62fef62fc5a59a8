"""AdamW without a schedule: an average of all steps takes the place of a rate that falls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn, optim


class ScheduleFree(optim.Optimizer):
    """Schedule-free AdamW. (Defazio et al., 2024, arXiv:2405.15682)

    Three sequences of weights: z moves by Adam's step without momentum; x is the mean of all z so far, weighted by the
    squares of their rates; and gradients are taken at y, which the parameters hold. What is kept is x, see `average`:

        z ← z − lr (g / √v + decay y)        x ← (1 − c) x + c z        y = (1 − β₁) z + β₁ x

    with c the newest one's share of all weights. x is not stored: y and z tell it.

    Args:
        parameters: to train; they hold y.
        lr: the rate, which needs no fall.
        betas: how far y lies from z to x, and the decay of v, the mean square of gradients.
        weight_decay: decoupled from the gradient.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, betas: tuple[float, float], weight_decay: float = 0.0
                 ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, p.grad, group)

    def _move(self, y: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, lr, (beta, beta2) = self.state[y], group["lr"], group["betas"]
        if not state:
            state |= {"z": y.clone(), "exp_avg_sq": torch.zeros_like(y), "step": y.new_zeros(()), "weight": y.new_zeros(())}
        z, square, step, weight = state["z"], state["exp_avg_sq"], state["step"], state["weight"]
        step += 1
        weight += lr**2
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        direction = gradient / (square / (1 - beta2**step)).sqrt_().add_(1e-8)
        direction.add_(y, alpha=group["weight_decay"])
        c = lr**2 / weight
        # y = (1 − β) z + β x, of which x goes to z by c, and z by −lr along the direction
        y.lerp_(z, c).add_(direction * (lr * (beta * (1 - c) - 1)))
        z.add_(direction, alpha=-lr)

    def average(self, y: Tensor) -> Tensor:
        """x of a parameter."""
        beta = next(group["betas"][0] for group in self.param_groups if any(p is y for p in group["params"]))
        return torch.lerp(y, self.state[y]["z"], 1 - 1 / beta) if self.state[y] else y
