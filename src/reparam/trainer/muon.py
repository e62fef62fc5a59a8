"""Muon: momentum whose matrices are made orthogonal before each step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.optim.adamw import adamw

QUINTIC, ITERATIONS = (3.4445, -4.7750, 2.0315), 5
"""Of Newton and Schulz's iteration, after which singular values lie between about 0.7 and 1.2. (Jordan et al., 2024)"""


class Muon(optim.Optimizer):
    """Muon. (Jordan et al., 2024, kellerjordan.github.io/posts/muon)

    A matrix moves by its momentum with all singular values made about 1; kernels of convolutions are matrices of outputs by
    the rest. Biases and scales move by AdamW. Gradients may be scaled and steps left out by `grad_scale` and `found_inf`, as
    by torch's fused optimizers: nothing waits for the device.

    Args:
        parameters: to train.
        lr: the singular values of a step, times the root of rows / columns where there are more rows.
        momentum: decay of the average of gradients, of which the step looks one ahead (Nesterov).
        adam_lr: rate of what has one dimension.
        betas: its decays.
        weight_decay: decoupled from the gradient.
    """

    _step_supports_amp_scaling = True
    grad_scale: Tensor | None = None
    """What gradients are divided by, (1,)."""
    found_inf: Tensor | None = None
    """1 for a step that is left out, ()."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float, adam_lr: float,
                 betas: tuple[float, float], weight_decay: float = 0.0) -> None:
        ours = list(parameters)
        groups = [{"params": [p for p in ours if p.dim() > 1], "lr": lr},
                  {"params": [p for p in ours if p.dim() < 2], "lr": adam_lr}]
        super().__init__([g for g in groups if g["params"]],
                         {"momentum": momentum, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if moved:
                (self._move_matrices if moved[0].dim() > 1 else self._move_vectors)(moved, group)

    def _move_matrices(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        for p in parameters:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        alike: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for p in parameters:
            alike.setdefault((len(p), p.numel() // len(p)), []).append(p)
        for (rows, columns), same in alike.items():
            keep, gradients = self._allowed([p.grad for p in same if p.grad is not None])
            moments = [self.state[p]["momentum"] for p in same]
            new = 1 - group["momentum"]
            torch._foreach_mul_(moments, 1 - new * keep)  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]
            torch._foreach_add_(moments, gradients, alpha=new)  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]
            ahead = group["momentum"] * torch.stack(moments) + new * torch.stack(gradients)
            steps = orthogonal(ahead.reshape(-1, rows, columns))
            steps *= -group["lr"] * max(1, rows / columns) ** 0.5 * keep
            for p, step in zip(same, steps, strict=True):
                p *= 1 - group["lr"] * group["weight_decay"] * keep
                p += step.reshape(p.shape)

    def _allowed(self, gradients: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """1 for a step that is taken, (), and the gradients divided by the scale; 0 and zeros for one that is left out,
        whatever its gradients are."""
        if self.grad_scale is None or self.found_inf is None:
            return gradients[0].new_ones(()), gradients
        left_out = self.found_inf > 0
        zero = gradients[0].new_zeros(())
        return (~left_out).to(zero.dtype), [torch.where(left_out, zero, g / self.grad_scale) for g in gradients]

    def _move_vectors(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        for p in parameters:
            if not self.state[p]:
                self.state[p] |= {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p), "step": p.new_zeros(())}
        states = [self.state[p] for p in parameters]
        first, second, steps = ([s[name] for s in states] for name in ("exp_avg", "exp_avg_sq", "step"))
        adamw([*parameters], [p.grad for p in parameters if p.grad is not None], first, second, [], steps, fused=True,
              grad_scale=self.grad_scale, found_inf=self.found_inf, amsgrad=False, beta1=group["betas"][0],
              beta2=group["betas"][1], lr=group["lr"], weight_decay=group["weight_decay"], eps=1e-8, maximize=False)


def orthogonal(m: Tensor) -> Tensor:
    """About U Vᵀ of matrices M = U S Vᵀ, (n, rows, columns): five times X ← a X + b X Xᵀ X + c (X Xᵀ)² X, from X = M / ‖M‖.

    Each of these is X ← B X with B = a + b G + c G² and G = X Xᵀ, all of which commute: the small matrices are multiplied,
    and the large one once, at the end.
    """
    tall = m.shape[1] > m.shape[2]
    x = m.mT if tall else m
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    g, product = x @ x.mT, None
    a, b, c = QUINTIC
    for i in range(ITERATIONS):
        factor = torch.baddbmm(g, g, g, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        if i < ITERATIONS - 1:
            g = factor @ g @ factor
    found = x if product is None else product @ x
    return found.mT if tall else found
