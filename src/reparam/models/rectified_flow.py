"""Rectified flow: noise is carried to data along straight paths, by a velocity that is learned as a regression.

    z_t = (1 − t) ε + t z,    ε ~ N(0, I),    v* = argmin E ‖v(z_t, t) − (z − ε)‖²,    dz/dt = v*(z, t)

carries N(0, I) at t = 0 to the law of z at t = 1. (Lipman et al., 2023, arXiv:2210.02747; Liu et al., 2023,
arXiv:2209.03003) Times are logit-normal, which puts most work where the direction is hardest to tell (Esser et al., 2024,
arXiv:2403.03206, section 3.1). Points are best of unit scale in every dimension.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..distributions.base import LOG_2PI
from ..nets.embeddings import LabelEmbedding, TimeEmbedding
from ..nets.velocity import VELOCITIES
from ..tensors import Shape

CONDITION = 128
"""Width of the vector that tells a network the time and the label."""
EXACT = 64
"""Most dimensions of which a divergence is summed exactly; beyond, it is estimated with one random direction a step."""


class Velocity(nn.Module):
    """v(z, t | y, context): what moves points of a shape, with as many channels of context beside them as told.

    `net` is a part call of the role `velocity`. With classes it learns with and without labels, so that guidance can
    tell the two apart: v = v(∅) + g (v(y) − v(∅)) (Ho & Salimans, 2022, arXiv:2207.12598, Eq. 6 with w = g − 1).
    """

    def __init__(self, net: str, shape: Shape, *, context: int = 0, classes: int = 0) -> None:
        super().__init__()
        self.shape, self.classes = shape, classes
        self.net = VELOCITIES.make(net, (shape[0] + context, *shape[1:]), shape, CONDITION)
        self.time = TimeEmbedding(CONDITION)
        self.label = LabelEmbedding(classes, CONDITION) if classes else None

    @property
    def rate(self) -> float:
        """The learning rate that suits the network."""
        return self.net.rate

    @property
    def batch(self) -> int:
        """Points a step that suit the network on a processor."""
        return self.net.batch

    def forward(self, z: Float[Tensor, "b *d"], t: Float[Tensor, "b"], y: Int[Tensor, "b"] | None = None,
                context: Tensor | None = None) -> Float[Tensor, "b *d"]:
        c = self.time(t)
        if self.label is not None:
            c = c + self.label(y if y is not None else torch.full_like(t, -1, dtype=torch.int64))
        return self.net(z if context is None else torch.cat([z, context], 1), c).float()

    def loss(self, z: Float[Tensor, "b *d"], y: Int[Tensor, "b"] | None = None, context: Tensor | None = None
             ) -> Float[Tensor, "b"]:
        """‖v(z_t, t) − (z − ε)‖² of each example at one time and one ε, the mean over dimensions."""
        t, noise = torch.randn(z.shape[0], device=z.device).sigmoid(), torch.randn_like(z)
        at = t.view(-1, *[1] * (z.dim() - 1))
        v = self(torch.lerp(noise, z, at), t, y, context)
        return (v - (z - noise)).square().flatten(1).mean(1)

    def carry(self, noise: Float[Tensor, "b *d"], steps: int, *, y: Int[Tensor, "b"] | None = None, guidance: float = 1.0,
              context: Tensor | None = None) -> Float[Tensor, "b *d"]:
        """Noise at t = 0 to data at t = 1, by so many steps of Heun's method: two evaluations each, four when guided."""

        def v(z: Tensor, t: float) -> Tensor:
            time = z.new_full((z.shape[0],), t)
            told = self(z, time, y, context)
            if guidance == 1 or y is None:
                return told
            return torch.lerp(self(z, time, None, context), told, guidance)

        z, h = noise, 1 / steps
        for i in range(steps):
            first = v(z, i * h)
            z = z + h / 2 * (first + v(z + h * first, (i + 1) * h))
        return z

    def log_prob(self, z: Float[Tensor, "b *d"], steps: int) -> Float[Tensor, "b"]:
        """log p(z), nats: log N(z_0; 0, I) − ∫ div v dt along the path back from z, by Heun's method.

        (Chen et al., 2018, arXiv:1806.07366, Eq. 8; the estimate of the divergence: Grathwohl et al., 2019,
        arXiv:1810.01367)
        """
        h, change = -1 / steps, z.new_zeros(z.shape[0])
        for i in range(steps):
            t = 1 + i * h
            first, one = self._with_divergence(z, t)
            second, two = self._with_divergence(z + h * first, t + h)
            z, change = z + h / 2 * (first + second), change + h / 2 * (one + two)
        flat = z.flatten(1)
        return -0.5 * (flat.square() + LOG_2PI).sum(1) + change

    def _with_divergence(self, z: Tensor, t: float) -> tuple[Tensor, Tensor]:
        time, dims = z.new_full((z.shape[0],), t), math.prod(self.shape)
        with sdpa_kernel(SDPBackend.MATH):
            v, pull = torch.func.vjp(lambda z: self(z, time), z)[:2]
            if dims <= EXACT:
                basis = torch.eye(dims, device=z.device).view(dims, 1, *self.shape).expand(dims, *z.shape)
                rows = torch.func.vmap(lambda e: pull(e)[0])(basis)
                return v, (rows * basis).flatten(2).sum((0, 2))
            probe = 2 * torch.randint_like(z, 2) - 1
            return v, (pull(probe)[0] * probe).flatten(1).sum(1)
