"""Priors over integer codes: uniform, and a causal transformer that is learned along with them.

Codes have no gradient, so the term `kl`, which is −log p(codes) for them, trains the prior and nothing else: what is
otherwise a second stage of training takes place along the first (van den Oord et al., 2017, arXiv:1711.00937, section 3.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...distributions.base import FromNoise, choice, uniform
from ...errors import UsageError
from ...parts.ranges import at_least
from ...parts.registry import prior
from ...tensors import Shape, no_autocast
from ..space import Space
from .base import Prior

MOST_CODES = 4096
"""Longest sequence for attention."""


@dataclass(frozen=True)
class UniformCodes(FromNoise):
    """Every grid of codes has the same probability, levels^−N."""

    shape: Shape
    levels: int
    device: torch.device

    @property
    def mean(self) -> Tensor:
        """Codes are names and have no mean; the first of them stands for the likeliest."""
        return torch.zeros(self.shape, dtype=torch.int64, device=self.device)

    def noise(self, n: int) -> Tensor:
        return torch.randn(n, math.prod(self.shape), device=self.device)

    def from_noise(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        """Equal logits stay equal at any temperature."""
        return (uniform(u) * self.levels).long().reshape(-1, *self.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        leading = value.shape[: value.dim() - len(self.shape)]
        return torch.full(leading, -math.prod(self.shape) * math.log(self.levels), device=value.device)


@prior("uniform")
class Uniform(Prior):
    """All codes equally likely: the rate is N log levels, whatever the image."""

    covers = ("codes",)
    zero: Tensor

    def __init__(self, space: Space) -> None:
        super().__init__(space)
        self.levels = space.levels
        self.register_buffer("zero", torch.zeros(()))

    def forward(self) -> UniformCodes:
        return UniformCodes(self.shape, self.levels, self.zero.device)


Cache = tuple[Tensor, Tensor]
"""Keys and values of the positions so far, (n, heads, length, width / heads)."""


class Block(nn.Module):
    """Causal self-attention and a two-layer network, each on normalised input and added to it.

    (Vaswani et al., 2017, arXiv:1706.03762)
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.net = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "n t w"], past: Cache | None = None) -> tuple[Float[Tensor, "n t w"], Cache]:
        """Positions x (n, t, width), which see those before them; with a `past`, one position after all of it."""
        q, k, v = self.parts(x)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=past is None)
        return self.after(x, seen), (k, v)

    def parts(self, x: Float[Tensor, "n t w"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of positions, (n, heads, t, width / heads) each."""
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.first(x)).chunk(3, -1))
        return q, k, v

    def after(self, x: Float[Tensor, "n t w"], seen: Float[Tensor, "n h t d"]) -> Float[Tensor, "n t w"]:
        """Positions, with what their attention has seen."""
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.net(self.second(x))


@dataclass(frozen=True)
class AutoregressiveCodes(FromNoise):
    """log p(c) = Σ_i log p(c_i | c_1 … c_(i−1)), in raster order of the grid."""

    net: Autoregressive

    @property
    def mean(self) -> Tensor:
        """Codes are names and have no mean; the likeliest one after the other stands for it, as at temperature 0."""
        return self.tempered((), 0.0)

    def noise(self, n: int) -> Tensor:
        return torch.randn(n, self.net.length, device=self.net.start.device)

    def from_noise(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        """A number chooses each code, from logits divided by `temperature`; at 0, the likeliest code at every step."""
        return self.net.sequences(u, temperature).reshape(-1, *self.net.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        dims = len(self.net.shape)
        flat = value.reshape(-1, self.net.length)
        log_p = self.net.logits(flat).log_softmax(-1).gather(-1, flat[..., None]).squeeze(-1).sum(-1)
        return log_p.reshape(value.shape[: value.dim() - dims])


@prior("autoregressive")
class Autoregressive(Prior):
    """A small causal transformer over the codes in raster order, in float32; it starts as the uniform prior.

    Each code is predicted from those before it. Sampling takes one step a code, with the keys and values of earlier
    steps kept. (van den Oord et al., 2017, arXiv:1711.00937, section 3.3; Vaswani et al., 2017, arXiv:1706.03762)
    """

    covers = ("codes",)

    def __init__(self, space: Space, width: Annotated[int, at_least(1)] = 64, layers: Annotated[int, at_least(1)] = 2,
                 heads: Annotated[int, at_least(1)] = 4) -> None:
        super().__init__(space)
        self.length = math.prod(space.shape)
        if width % heads:
            raise UsageError(f"autoregressive(width={width}, heads={heads}): give a width that is a multiple of the heads")
        if self.length > MOST_CODES:
            raise UsageError(f"autoregressive: {self.length:,} codes an image are more than {MOST_CODES:,}: use a coarser "
                             "grid, spatial() with a larger factor, or fewer groups of numbers in each position")
        self.start = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(self.length, width))
        self.embedding = nn.Parameter(0.02 * torch.randn(space.levels, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, space.levels)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self) -> AutoregressiveCodes:
        return AutoregressiveCodes(self)

    def logits(self, codes: Int[Tensor, "n t"]) -> Float[Tensor, "n t levels"]:
        """Of each code given those before it, (n, length, levels), float32."""
        with no_autocast(self.start):
            before = F.embedding(codes[:, :-1], self.embedding)
            x = torch.cat([self.start.expand(codes.shape[0], -1, -1), before], 1) + self.position
            for block in self.blocks:
                x, _ = block(x)
            return self.head(self.norm(x))

    @torch.no_grad()
    def sequences(self, u: Float[Tensor, "n t"], temperature: float) -> Int[Tensor, "n t"]:
        """Sequences of codes, each chosen by a standard normal number, with logits divided by `temperature`."""
        codes: list[Tensor] = []
        past: list[Cache | None] = [None] * len(self.blocks)
        x = self.start.expand(u.shape[0], -1, -1)
        with no_autocast(self.start):
            for i in range(self.length):
                x = x + self.position[i]
                for b, block in enumerate(self.blocks):
                    x, past[b] = block(x, past[b])
                codes.append(pick(self.head(self.norm(x)).squeeze(1), u[:, i], temperature))
                x = F.embedding(codes[-1][:, None], self.embedding)
        return torch.stack(codes, 1)


def pick(logits: Float[Tensor, "n levels"], u: Float[Tensor, "n"], temperature: float) -> Int[Tensor, "n"]:
    """One code from each row, by a standard normal number each, with logits divided by `temperature`; the likeliest at 0."""
    if temperature == 0:
        return logits.argmax(-1)
    return choice((logits / temperature).softmax(-1), u)
