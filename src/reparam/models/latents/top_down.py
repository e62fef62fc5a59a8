"""A ladder of stochastic layers, inferred and generated from the top down on a pyramid of resolutions.

    p(x, z) = p(x | z_1 … z_L) p(z_L) Π p(z_l | z_{>l}),    q(z | x) = q(z_L | x) Π q(z_l | x, z_{>l})

Inference and generation walk the same path, so that a layer's posterior begins where its prior is. (Sønderby et al.,
2016, arXiv:1602.02282; Vahdat & Kautz, 2020, arXiv:2007.03898; Child, 2021, arXiv:2011.10650)

A few layers are best made of plain 3×3 convolutions. Tens of them, down to fine grids, are made of bottlenecks, whose
convolutions are narrow, and halve and enlarge the grid without weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...distributions.gaussian import Gaussian
from ...errors import UsageError
from ...nets.layers import Residual, Upsample, from_latent, zeroed
from ...parts.ranges import at_least
from ...parts.registry import latent
from ...tensors import Shape, bounded
from ..draw import Draw
from ..priors import Prior
from ..space import Space
from ..trace import Layer
from .base import Latents, LatentSpec, MakePosterior, MakePrior, Observed, unfolded
from .flat import OneLayer

Grid = tuple[int, int]


class Bottleneck(nn.Module):
    """x + f(x) with convolutions 1×1, 3×3, 3×3 and 1×1, the last of which starts at zero; the inner ones are narrow.

    (He et al., 2016, arXiv:1512.03385, Figure 5; Child, 2021, Figure 3)
    """

    def __init__(self, channels: int, hidden: int, grid: Grid) -> None:
        super().__init__()
        self.net = _narrow(channels, hidden, channels, grid)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


def _narrow(inputs: int, hidden: int, outputs: int, grid: Grid) -> nn.Sequential:
    """The branch of a bottleneck. Below 3 pixels a side a 3×3 convolution would mostly see the padding."""
    size = 3 if max(grid) >= 3 else 1
    inner = [nn.Conv2d(inputs, hidden, 1), *(nn.Conv2d(hidden, hidden, size, padding=size // 2) for _ in range(2))]
    return nn.Sequential(*(layer for conv in inner for layer in (nn.SiLU(), conv)), nn.SiLU(),
                         zeroed(nn.Conv2d(hidden, outputs, 1)))


@dataclass(frozen=True)
class BlockSpec:
    """The blocks of a ladder: convolutions of `width` channels, or bottlenecks `bottleneck` times narrower inside."""

    width: int
    bottleneck: int
    layers: int
    """Stochastic layers of the whole ladder."""

    @property
    def hidden(self) -> int:
        return max(self.width // (self.bottleneck or 2), 1)

    @property
    def share(self) -> float:
        """Initial scale of what a layer adds to the path: √(2/L) for L ≥ 2, so that the sum over layers keeps one size."""
        return math.sqrt(2 / max(self.layers, 2))

    def residual(self, grid: Grid) -> nn.Module:
        return Bottleneck(self.width, self.hidden, grid) if self.bottleneck else Residual(self.width)

    def head(self, inputs: int, outputs: int, grid: Grid) -> nn.Sequential:
        """From features to the parameters of a layer, which start at zero."""
        if self.bottleneck:
            return _narrow(inputs, self.hidden, outputs, grid)
        return nn.Sequential(nn.SiLU(), nn.Conv2d(inputs, self.hidden, 3, padding=1), nn.SiLU(),
                             zeroed(nn.Conv2d(self.hidden, outputs, 1)))

    def halve(self) -> list[nn.Module]:
        """To the next coarser grid: averages where there are bottlenecks, else a convolution."""
        if self.bottleneck:
            return [nn.AvgPool2d(2, ceil_mode=True)]
        return [nn.SiLU(), nn.Conv2d(self.width, self.width, 3, stride=2, padding=1)]

    def enlarge(self, fine: Grid) -> nn.Module:
        if self.bottleneck:
            return Upsample(fine)
        return nn.Sequential(Upsample(fine), nn.Conv2d(self.width, self.width, 3, padding=1))


class TopDownLayer(nn.Module):
    """One stochastic layer below the top: draws ε given the path, and updates the path.

        z = μ_p(path) + σ_p(path) ε,    ε ~ N(0, I) under p,    ε ~ N(μ_q, σ_q²)(path, features of x) under q

    In units of its own prior the layer's KL depends on the posterior's offsets alone; these start at zero, with them the
    KL. A code holds ε, so that what lies above can change and the detail goes with it.
    """

    zero: Tensor

    def __init__(self, shape: Shape, make: BlockSpec) -> None:
        super().__init__()
        self.channels, grid = shape[0], (shape[1], shape[2])
        self.posterior = make.head(2 * make.width, 2 * self.channels, grid)
        self.prior = make.head(make.width, 2 * self.channels + make.width, grid)
        self.merge = nn.Conv2d(self.channels, make.width, 1)
        with torch.no_grad():
            for p in self.merge.parameters():
                p.mul_(make.share)
        self.residual = make.residual(grid)
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


class TopDown(Latents):
    """A vector at the top, with the recipe's posterior and prior, and layers from the coarsest grid to the finest.

    A prior that is fitted to codes is one over the top; what lies below has learned its own.
    """

    top: OneLayer

    def __init__(self, features: Shape, top: OneLayer, grids: list[Grid], rungs: tuple[int, ...], channels: int,
                 make: BlockSpec, blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.top, self.space, self.grids = top, top.space, grids
        residuals = [[make.residual(grid) for _ in range(n)] for grid, n in zip(grids, reversed(blocks), strict=True)]
        stem = nn.Conv2d(features[0], make.width, 1)
        self.stem = nn.Sequential(stem, *residuals[0]) if residuals[0] else stem
        self.down = nn.ModuleList(nn.Sequential(*make.halve(), *coarser) for coarser in residuals[1:])
        self.start = from_latent(top.decoder_input, make.width, grids[-1])
        self.rungs = nn.ModuleList(
            nn.ModuleList(TopDownLayer((channels, *grid), make) for _ in range(n))
            for grid, n in zip(reversed(grids), rungs, strict=True))
        self.up = nn.ModuleList(make.enlarge(fine) for _, fine in pairwise(reversed(grids)))
        self.decoder_input = (make.width, *grids[0])
        self.sizes = [math.prod(top.shape), *(channels * h * w for (h, w), n in zip(reversed(grids), rungs, strict=True)
                                              for _ in range(n))]
        self.shape = (sum(self.sizes),)

    def infer(self, seen: Observed, samples: int, y: Tensor | None = None) -> tuple[Tensor, tuple[Layer, ...]]:
        grids = self._seen(seen.h)
        features, (top,) = self.top.infer(self._at_top(seen, grids), samples)
        layers = [top]
        grids = [s.expand(samples, *s.shape).flatten(0, 1) for s in grids]
        batch = (samples, seen.h.shape[0])

        def draw(layer: TopDownLayer, path: Tensor, at: int) -> Tensor:
            q = unfolded(layer.q(path, grids[at]), batch)
            eps = q.rsample()
            layers.append(Layer(eps, q, layer.p()))
            return eps.flatten(0, 1)

        path = self._descend(features.flatten(0, 1), draw)
        return path.unflatten(0, batch), tuple(layers)

    def code(self, seen: Observed, *, sample: bool = False) -> Tensor:
        grids = self._seen(seen.h)
        pieces = [self.top.code(self._at_top(seen, grids), sample=sample)]

        def draw(layer: TopDownLayer, path: Tensor, at: int) -> Tensor:
            q = layer.q(path, grids[at])
            pieces.append(q.sample() if sample else q.mean)
            return pieces[-1]

        self._descend(self.top.read(pieces[0][None])[0], draw)
        return torch.cat([piece.flatten(1) for piece in pieces], 1)

    def read(self, code: Tensor) -> Tensor:
        top, *eps = code.flatten(0, 1).split(self.sizes, 1)
        rest = iter(eps)
        path = self._descend(self.top.read(top.unflatten(1, self.top.shape)[None])[0],
                             lambda layer, path, at: next(rest).unflatten(1, layer.zero.shape))
        return path.unflatten(0, code.shape[:2])

    @property
    def top_prior(self) -> Prior:
        return self.top.top_prior

    def noise(self, n: int, prior: Prior | None = None) -> Tensor:
        top = self.top.noise(n, prior)
        return torch.cat([top, torch.randn(n, sum(self.sizes[1:]), device=top.device)], 1)

    def from_noise(self, u: Tensor, options: Draw = Draw(), prior: Prior | None = None) -> Tensor:
        given = options.temperature if isinstance(options.temperature, tuple) else (options.temperature,)
        if not 1 <= len(given) <= len(self.sizes):
            raise UsageError(f"this model has {len(self.sizes)} stochastic layers; got {len(given)} temperatures")
        each = [*given, *given[-1:] * (len(self.sizes) - len(given))]
        of_top, *below = u.split([u.shape[1] - sum(self.sizes[1:]), *self.sizes[1:]], 1)
        top = self.top.from_noise(of_top, replace(options, temperature=each[0]), prior).flatten(1)
        return torch.cat([top, *(t * eps for t, eps in zip(each[1:], below, strict=True))], 1)

    def log_density(self, code: Tensor, prior: Prior | None = None) -> Tensor:
        top, eps = code.split([self.sizes[0], sum(self.sizes[1:])], 1)
        zero = torch.zeros_like(eps)
        return self.top.log_density(top.unflatten(1, self.top.shape), prior) + Gaussian(zero, zero).log_prob(eps)

    @property
    def fit_space(self) -> Space | None:
        return self.top.fit_space

    def to_fit(self, seen: Observed, draws: int) -> Tensor:
        return self.top.to_fit(self._at_top(seen, self._seen(seen.h)), draws)

    @property
    def prior_is_learned(self) -> bool:
        return self.top.prior_is_learned

    def _at_top(self, seen: Observed, grids: list[Tensor]) -> Observed:
        """What the topmost layer knows: the coarsest features, and log p(x | z) where all below is at its prior's mean."""
        below = sum(self.sizes[1:])
        return Observed(grids[-1], lambda z: seen.log_px(self.read(F.pad(z.flatten(2), (0, below)))))

    def _seen(self, h: Tensor) -> list[Tensor]:
        """The encoder's features on every grid, from fine to coarse."""
        seen = [self.stem(h)]
        for down in self.down:
            seen.append(down(seen[-1]))
        return seen

    def _descend(self, top: Tensor, draw: Callable[[TopDownLayer, Tensor, int], Tensor]) -> Tensor:
        """Walks the path from the top; `draw(layer, path, grid index)` gives the ε of each layer."""
        path = self.start(top)
        for i, rungs in enumerate(self.rungs):
            if i:
                path = self.up[i - 1](path)
            for layer in rungs:  # type: ignore[union-attr]
                path = layer(path, draw(layer, path, len(self.grids) - 1 - i))  # type: ignore[arg-type]
        return path


@dataclass(frozen=True)
class TopDownSpec(LatentSpec):
    """Shapes of a ladder before its parts are made."""

    grid: Grid
    dim: int
    rungs: tuple[int, ...]
    channels: int
    make: BlockSpec
    blocks: tuple[int, ...]

    @property
    def grids(self) -> list[Grid]:
        """From the finest to the coarsest; each has half the sides of the one before, rounded up."""
        grids = [self.grid]
        for _ in self.rungs[1:]:
            grids.append((-(-grids[-1][0] // 2), -(-grids[-1][1] // 2)))
        return grids

    def build(self, features: Shape, posterior: MakePosterior, prior: MakePrior) -> TopDown:
        if len(features) != 3:
            raise UsageError("top_down needs an encoder whose features lie on a grid, such as resnet or conv; this one "
                             f"ends in {features[0]} numbers")
        grids = self.grids
        q = posterior((self.make.width, *grids[-1]), (self.dim,))
        top = OneLayer(q, prior(q, False), (self.dim,))
        return TopDown(features, top, grids, self.rungs, self.channels, self.make, self.blocks)


Positive = Annotated[int, at_least(1)]
Counts = tuple[Annotated[int, at_least(0)], ...]


@latent("top_down")
def top_down(image_shape: Shape, dim: Positive = 32, rungs: Counts = (2,), channels: Positive = 2, width: Positive = 64,
             factor: Positive = 4, blocks: Counts = (), bottleneck: Annotated[int, at_least(0)] = 0) -> TopDownSpec:
    """A ladder: a vector of `dim` numbers at the top, then stochastic layers of `channels` maps, coarse to fine.

    `rungs` counts the layers on each grid from the coarsest to the finest, which is the image's by `factor`; each grid
    halves the one below. (2,) is one grid with two layers; (2, 3, 3) has three grids; (1, 0, 2) leaves the middle one
    out. The recipe's posterior and prior are the top's. `blocks` counts the residual blocks on each grid on the way up
    from the encoder, in the order of `rungs`; () is one on each but the finest. For more than about ten layers give a
    `bottleneck`: blocks whose 3×3 convolutions have so many times fewer channels, 4 in the paper; and wherever detail
    counts, a `factor` of 1. (Child, 2021, arXiv:2011.10650)
    """
    if not rungs:
        raise UsageError("top_down(rungs=()): rungs counts the layers on each grid, such as (2,) or (2, 3)")
    if bottleneck > width:
        raise UsageError(f"top_down(bottleneck={bottleneck}): by how much blocks are narrower inside than their width of "
                         f"{width}, such as 4; 0 is for plain blocks")
    blocks = blocks or (*[1] * (len(rungs) - 1), 0)
    if len(blocks) != len(rungs):
        raise UsageError(f"top_down(rungs={rungs}, blocks={blocks}): blocks are counts of residual blocks, one for each of "
                         f"the {len(rungs)} grids that rungs names")
    grid = (-(-image_shape[1] // factor), -(-image_shape[2] // factor))
    return TopDownSpec(grid, dim, rungs, channels, BlockSpec(width, bottleneck, sum(rungs)), blocks)
