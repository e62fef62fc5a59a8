"""A ladder of stochastic layers, inferred and generated from the top down on a pyramid of resolutions.

    p(x, z) = p(x | z_1 … z_L) p(z_L) Π p(z_l | z_{>l}),    q(z | x) = q(z_L | x) Π q(z_l | x, z_{>l})

Inference and generation walk the same path, so that a layer's posterior begins where its prior is. (Sønderby et al.,
2016, arXiv:1602.02282; Vahdat & Kautz, 2020, arXiv:2007.03898; Child, 2021, arXiv:2011.10650)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from .distributions import Gaussian
from .errors import UsageError
from .latent import Latent, Latents, MakePosterior, MakePrior, OneLayer, no_labels, unfolded
from .nets.layers import Residual, Shape, Upsample, bounded, from_latent, zeroed
from .registry import latent


class Rung(nn.Module):
    """One stochastic layer below the top: where the path stands, it draws ε and moves on.

        z = μ_p(path) + σ_p(path) ε,    ε ~ N(0, I) under p,    ε ~ N(μ_q, σ_q²)(path, features of x) under q

    In units of its own prior the layer's KL depends on the posterior's offsets alone; these start at zero, with them the
    KL. A code holds ε, so that what lies above can change and the detail goes with it.
    """

    zero: Tensor

    def __init__(self, shape: Shape, width: int) -> None:
        super().__init__()
        self.channels, hidden = shape[0], max(width // 2, 1)
        self.posterior = _head(2 * width, hidden, 2 * self.channels)
        self.prior = _head(width, hidden, 2 * self.channels + width)
        self.merge = nn.Conv2d(self.channels, width, 1)
        self.residual = Residual(width)
        self.register_buffer("zero", torch.zeros(shape))

    def p(self) -> Gaussian:
        """N(0, I)."""
        return Gaussian(self.zero, self.zero, 3)

    def q(self, path: Tensor, seen: Tensor) -> Gaussian:
        """The posterior of ε, from the path and the encoder's features."""
        loc, log_var = self.posterior(torch.cat([path, seen], 1)).float().chunk(2, 1)
        return Gaussian(loc, bounded(log_var, 8.0), 3)

    def forward(self, path: Tensor, eps: Tensor) -> Tensor:
        """The path below this layer."""
        loc, log_scale, features = self.prior(path).split([self.channels, self.channels, path.shape[1]], 1)
        z = loc.float() + bounded(log_scale.float(), 4.0).exp() * eps
        return self.residual(path + features + self.merge(z))


def _head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.SiLU(), nn.Conv2d(inputs, hidden, 3, padding=1), nn.SiLU(),
                         zeroed(nn.Conv2d(hidden, outputs, 1)))


class TopDown(Latents):
    """A vector at the top, with the recipe's posterior and prior, and rungs from the coarsest grid to the finest."""

    def __init__(self, features: Shape, top: OneLayer, grids: list[tuple[int, int]], rungs: tuple[int, ...],
                 channels: int, width: int) -> None:
        super().__init__()
        self.top, self.fitted, self.space = top, None, top.space
        self.grids = grids
        self.stem = nn.Conv2d(features[0], width, 1)
        self.down = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Conv2d(width, width, 3, stride=2, padding=1), Residual(width))
            for _ in grids[1:])
        self.start = from_latent(top.features, width, grids[-1])
        self.rungs = nn.ModuleList(
            nn.ModuleList(Rung((channels, *grid), width) for _ in range(n))
            for grid, n in zip(reversed(grids), rungs, strict=True))
        self.up = nn.ModuleList(
            nn.Sequential(Upsample(fine), nn.Conv2d(width, width, 3, padding=1)) for _, fine in pairwise(reversed(grids)))
        self.features = (width, *grids[0])
        self.sizes = [math.prod(top.shape), *(channels * h * w for (h, w), n in zip(reversed(grids), rungs, strict=True)
                                              for _ in range(n))]
        self.shape = (sum(self.sizes),)

    def infer(self, h: Tensor, samples: int, y: Tensor | None = None) -> tuple[Tensor, tuple[Latent, ...]]:
        seen = self._seen(h)
        features, (top,) = self.top.infer(seen[-1], samples)
        layers = [top]
        seen = [s.expand(samples, *s.shape).flatten(0, 1) for s in seen]
        batch = (samples, len(h))

        def draw(rung: Rung, path: Tensor, at: int) -> Tensor:
            q = unfolded(rung.q(path, seen[at]), batch)
            eps = q.rsample()
            layers.append(Latent(eps, q, rung.p()))
            return eps.flatten(0, 1)

        path = self._descend(features.flatten(0, 1), draw)
        return path.unflatten(0, batch), tuple(layers)

    def code(self, h: Tensor, *, sample: bool = False) -> Tensor:
        seen = self._seen(h)
        pieces = [self.top.code(seen[-1], sample=sample)]

        def draw(rung: Rung, path: Tensor, at: int) -> Tensor:
            q = rung.q(path, seen[at])
            pieces.append(q.sample() if sample else q.mean)
            return pieces[-1]

        self._descend(self.top.read(pieces[0][None])[0], draw)
        return torch.cat([piece.flatten(1) for piece in pieces], 1)

    def read(self, code: Tensor) -> Tensor:
        top, *eps = code.flatten(0, 1).split(self.sizes, 1)
        rest = iter(eps)
        path = self._descend(self.top.read(top.unflatten(1, self.top.shape)[None])[0],
                             lambda rung, path, at: next(rest).unflatten(1, rung.zero.shape))
        return path.unflatten(0, code.shape[:2])

    def generate(self, n: int, temperature: float | tuple[float, ...] = 1.0, *, fitted: bool = True,
                 label: int | None = None) -> Tensor:
        no_labels(label)
        given = temperature if isinstance(temperature, tuple) else (temperature,)
        if not 1 <= len(given) <= len(self.sizes):
            raise UsageError(f"this model has {len(self.sizes)} stochastic layers; got {len(given)} temperatures")
        each = [*given, *given[-1:] * (len(self.sizes) - len(given))]
        top = self.top.generate(n, each[0]).flatten(2)
        noise = [t * torch.randn(1, n, size, device=top.device) for size, t in zip(self.sizes[1:], each[1:], strict=True)]
        return torch.cat([top, *noise], 2)

    def _seen(self, h: Tensor) -> list[Tensor]:
        """The encoder's features on every grid, from fine to coarse."""
        seen = [self.stem(h)]
        for down in self.down:
            seen.append(down(seen[-1]))
        return seen

    def _descend(self, top: Tensor, draw: Callable[[Rung, Tensor, int], Tensor]) -> Tensor:
        """Walks the path from the top, asking `draw` for the ε of each rung, given the number of its grid."""
        path = self.start(top)
        for i, rungs in enumerate(self.rungs):
            if i:
                path = self.up[i - 1](path)
            for rung in rungs:  # type: ignore[union-attr]
                path = rung(path, draw(rung, path, len(self.grids) - 1 - i))  # type: ignore[arg-type]
        return path


@dataclass(frozen=True)
class LadderPlan:
    """Shapes of a ladder before its parts are made."""

    grids: list[tuple[int, int]]
    dim: int
    rungs: tuple[int, ...]
    channels: int
    width: int

    @property
    def grid(self) -> tuple[int, int]:
        return self.grids[0]

    def build(self, features: Shape, posterior: MakePosterior, prior: MakePrior) -> TopDown:
        if len(features) != 3:
            raise UsageError("top_down needs an encoder whose features lie on a grid, such as resnet or conv; this one "
                             f"ends in {features[0]} numbers")
        q = posterior((self.width, *self.grids[-1]), (self.dim,))
        top = OneLayer(q, prior(q, False), (self.dim,))
        return TopDown(features, top, self.grids, self.rungs, self.channels, self.width)


@latent("top_down")
def top_down(image_shape: Shape, dim: int = 32, rungs: tuple[int, ...] = (2,), channels: int = 2, width: int = 64,
             factor: int = 4) -> LadderPlan:
    """A ladder: a vector of `dim` numbers at the top, then stochastic layers of `channels` maps, coarse to fine.

    `rungs` counts the layers on each grid from the coarsest to the finest, which is the image's by `factor`; each grid
    halves the one below. (2,) is one grid with two layers; (2, 3, 3) has three grids. The recipe's posterior and prior are
    the top's. (Child, 2021, arXiv:2011.10650)
    """
    if min(dim, channels, width, factor) < 1 or not rungs or min(rungs) < 0:
        raise UsageError(f"top_down({dim}, {rungs}, {channels}, {width}, {factor}): dim, channels, width and factor are at "
                         "least 1, and rungs are counts of layers, such as (2,) or (2, 3)")
    size = (-(-image_shape[1] // factor), -(-image_shape[2] // factor))
    grids = [size]
    for _ in rungs[1:]:
        grids.append((-(-grids[-1][0] // 2), -(-grids[-1][1] // 2)))
    return LadderPlan(grids, dim, rungs, channels, width)
