"""Conditions as vectors: labels, times and positions, and how a vector steers feature maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import UsageError


def sinusoids(x: Tensor, width: int, slowest: float, fastest: float) -> Tensor:
    """Numbers as waves: sin(ωᵢx), cos(ωᵢx) in turn, with ω from `fastest` to `slowest` in equal ratios, in float32.

    (…,) → (…, width). Near numbers get near vectors, and distant ones different ones. (Vaswani et al., 2017,
    arXiv:1706.03762, Section 3.5)
    """
    frequencies = fastest * (slowest / fastest) ** torch.linspace(0, 1, -(-width // 2), device=x.device)
    angles = x.float()[..., None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)[..., :width]


def grid_positions(grid: tuple[int, int], width: int) -> Tensor:
    """(h·w, width): a vector for each place of a grid, half of it waves of the row and half of the column."""
    rows, columns = (torch.arange(n) for n in grid)
    across, down = width // 2, width - width // 2
    h = sinusoids(rows, down, 0.01, 1.0)[:, None].expand(*grid, -1)
    w = sinusoids(columns, across, 0.01, 1.0)[None].expand(*grid, -1)
    return torch.cat([h, w], -1).flatten(0, 1)


class LabelEmbedding(nn.Module):
    """A learned vector for each class, and one for 'no class', written −1.

    While training a label is dropped with probability `dropout`, so that one network learns with and without labels and
    can be guided by their difference. (Ho & Salimans, 2022, arXiv:2207.12598)
    """

    def __init__(self, classes: int, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        if classes < 1 or width < 1:
            raise UsageError(f"labels need at least one class and a width of at least 1; got {classes} and {width}")
        if not 0 <= dropout <= 1:
            raise UsageError(f"the dropout of labels is a probability from 0 to 1; got {dropout}")
        self.dropout = dropout
        self.table = nn.Embedding(1 + classes, width)

    def forward(self, y: Int[Tensor, "*b"]) -> Float[Tensor, "*b width"]:
        row = y + 1  # row 0 is 'no class'
        if self.training and self.dropout:
            row = row * (torch.rand(y.shape, device=y.device) >= self.dropout)
        return self.table(row)


class TimeEmbedding(nn.Module):
    """Times from 0 to 1 as vectors: 1 to 100 radians' worth of `sinusoids`, and a small network on them.

    (Ho et al., 2020, arXiv:2006.11239, Appendix B)
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width < 1:
            raise UsageError(f"an embedding needs a width of at least 1; got {width}")
        self.width = width
        self.net = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b width"]:
        return self.net(sinusoids(t, self.width, 1.0, 100.0))


class Modulate(nn.Module):
    """x·(1 + γ(c)) + β(c) for each channel, with γ and β linear in silu(c): the identity at the start.

    x is (B, channels, …) and the condition c is (B, condition). (Perez et al., 2018, arXiv:1709.07871, Eq. 2)
    """

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Float[Tensor, "b channels *grid"], c: Float[Tensor, "b condition"]
                ) -> Float[Tensor, "b channels *grid"]:
        gamma, beta = self.linear(F.silu(c)).unflatten(1, (2, x.shape[1], *[1] * (x.dim() - 2))).unbind(1)
        return x * (1 + gamma) + beta
