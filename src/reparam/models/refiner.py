"""A refiner adds to a decoder's mean image x̂ the detail that its code does not hold: it draws x ~ p(x | x̂).

A mean over all images that fit a code is blurred; a draw is not. Codes and decoder stay as they are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..distributions.pixels import LogisticMixture
from ..errors import UsageError
from ..nets.layers import Patches, Residual, Unpatch, zeroed
from ..nets.masked import CausalConv, baked
from ..parts import registry
from ..parts.call import parse_call
from ..parts.ranges import above, at_least, between, one_of
from ..parts.registry import refiner
from ..tensors import Shape, no_autocast
from .likelihoods import LogisticLikelihood
from .rectified_flow import Velocity

ALL = slice(None)
Positive = Annotated[int, at_least(1)]
LEAST = 1e-5
"""Added to a mean of squares before its root is taken, which has no slope at 0."""


class Refiner(nn.Module, ABC):
    """A conditional distribution of images (n, C, H, W) in [0, 1] given the decoder's means of their codes."""

    scale: Tensor
    rate: float = 2e-3
    """The learning rate that suits it."""

    def __init__(self, image_shape: Shape) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(image_shape[0], 1, 1))

    def prepare(self, x: Float[Tensor, "n c h w"], means: Float[Tensor, "n c h w"]) -> None:
        """Sets `scale` to the standard deviation of x − x̂ in each channel, before training."""
        self.scale.copy_((x - means).std((0, 2, 3)).clamp(min=1e-4)[:, None, None])

    @abstractmethod
    def loss(self, x: Float[Tensor, "n c h w"], means: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
        """What training minimises, for each image."""

    @abstractmethod
    def forward(self, means: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"], temperature: float | None = None
                ) -> Float[Tensor, "n c h w"]:
        """Adds detail to decoder means; deterministic given the N(0, I) `noise`. A `temperature` below 1 gives cleaner
        images than the learned distribution has; None is the refiner's own."""


REFINERS = registry.refiner.of(Refiner)


@refiner("autoregressive")
class AutoregressiveRefiner(Refiner):
    """Draws the pixels of an image group after group, each group given those before it and the decoder's image.

        p(x | x̂) = ∏_g ∏_{i ∈ g} p(x_i | x of the groups before, x̂)

    with mixtures of discretised logistics for p. An image is cut into squares of `side`×`side` pixels, and the pixels at one
    place of every square are a group; groups follow each other in the order of ordered dithering (Bayer, 1973), which leaves
    the smallest gaps for the last (Reed et al., 2017, arXiv:1703.03664). The network is residual convolutions over the grid
    of squares: `width` channels know the decoder's image alone, and `each` more for every group but the last know that group
    and those before it. So one evaluation gives p of every pixel, and drawing takes one for each group.
    Images are drawn at `temperature` unless another is asked for.
    """

    rate = 6e-3

    def __init__(self, image_shape: Shape, width: Positive = 32, each: Positive = 2,
                 blocks: Annotated[int, between(0, 64)] = 3, mixtures: Positive = 5,
                 side: Annotated[int, one_of(1, 2, 4, 8)] = 4,
                 temperature: Annotated[float, above(0, up_to=1)] = 0.5) -> None:
        super().__init__(image_shape)
        c, h, w = image_shape
        self.side, self.temperature = side, temperature
        self.likelihood = LogisticLikelihood(image_shape, mixtures)
        self.cut, self.join = Patches(side), Unpatch(side, (h, w))
        # levels say what a channel may know: 0 the decoder's image, g + 1 also group g and those before it
        places = [1 + group for row in dithered(side) for group in row]
        hidden = width * [0] + [1 + group for group in range(side**2 - 1) for _ in range(each)]
        self.net = nn.Sequential(
            CausalConv(c * side**2 * [0] + c * places, hidden, 3), *(CausalResidual(hidden) for _ in range(blocks)),
            nn.SiLU(), CausalConv(hidden, self.likelihood.channels * places, 1, strict=True))

    def given(self, x: Float[Tensor, "n c h w"], means: Float[Tensor, "n c h w"], rows: slice = ALL, columns: slice = ALL,
              net: nn.Module | None = None) -> LogisticMixture:
        """p of each pixel in `rows` and `columns`, given the pixels of x in the groups before its own; by `net`, where that
        is the network with its masks baked in."""
        centre = 2 * means - 1
        params = self.join((net or self.net)(torch.cat([self.cut(centre), self.cut((x - means) / self.scale)], 1)))
        p, centre = self.likelihood(params[..., rows, columns]), centre[:, None, :, rows, columns]
        return replace(p, means=p.means + centre - (p.chain * centre[:, :, None]).sum(-3))  # links, too, are of x − x̂

    def loss(self, x: Float[Tensor, "n c h w"], means: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
        """−log p(x | x̂) / (C·H·W) of each image, nats."""
        return -self.given(x, means).log_prob(x) / x[0].numel()

    def forward(self, means: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"], temperature: float | None = None
                ) -> Float[Tensor, "n c h w"]:
        t = self.temperature if temperature is None else temperature
        x, u, net = means.clone(), torch.special.ndtr(noise), baked(self.net)
        places = [(group, i, j) for i, row in enumerate(dithered(self.side)) for j, group in enumerate(row)]
        for _, *place in sorted(places):
            rows, columns = (slice(first, None, self.side) for first in place)
            x[..., rows, columns] = self.given(x, means, rows, columns, net).sharpened(t).from_uniform(u[..., rows, columns])
        return x


def dithered(side: int) -> list[list[int]]:
    """The numbers 0 … side² − 1 in a square, side a power of 2, so that each stands far from those little less than it."""
    square = [[0]]
    while len(square) < side:
        square = [[4 * n + add for add in pair for n in row] for pair in ((0, 2), (3, 1)) for row in square]
    return square


class CausalResidual(Residual):
    """A residual block between channels with levels, which sees no level above its own."""

    def __init__(self, levels: list[int]) -> None:
        super().__init__(len(levels))
        self.first, self.second = CausalConv(levels, levels, 3), zeroed(CausalConv(levels, levels, 3))


@refiner("flow_matching")
class FlowRefiner(Refiner):
    """A rectified flow in pixels that carries noise to what the decoder's image lacks, and sees that image.

    x = x̂ + s r with r ~ p(r | x̂) and s the standard deviation of x − x̂. `net` is a velocity, such as unet(32, patch=2) or
    dit; images take `steps` of Heun's method. (Pandey et al., 2022, arXiv:2201.00308, with diffusion)
    """

    def __init__(self, image_shape: Shape, net: str = "unet(32, patch=2)",
                 steps: Annotated[int, between(1, 1000)] = 8) -> None:
        super().__init__(image_shape)
        if parse_call(net).name == "mlp":
            raise UsageError(f"the refiner's network {net!r} would see an image as a list of numbers: use unet or dit, such "
                             "as 'unet(32, patch=2)'")
        self.steps, self.velocity = steps, Velocity(net, image_shape, context=image_shape[0])
        self.rate = self.velocity.rate

    def loss(self, x: Float[Tensor, "n c h w"], means: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
        """Squared error of the velocity, the mean over pixel values."""
        return self.velocity.loss((x - means) / self.scale, context=2 * means - 1)

    def forward(self, means: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"], temperature: float | None = None
                ) -> Float[Tensor, "n c h w"]:
        noise = noise if temperature is None else temperature * noise
        with no_autocast(means):
            return means + self.scale * self.velocity.carry(noise, self.steps, context=2 * means - 1)


@refiner("energy")
class EnergyRefiner(Refiner):
    """Draws an image in one pass of a network that reads the decoder's image and noise, trained by an energy score.

    x = x̂ + s f(x̂, ε), ε ~ N(0, I) and s the standard deviation of x − x̂. For two draws a and b of one x̂, training minimises

        Σ_k mean over squares of k×k pixels of  ½ ‖a − x‖ + ½ ‖b − x‖ − ½ ‖a − b‖

    whose expectation is least exactly where each square is drawn from its distribution given x̂: neither a likelihood nor a
    critic is needed. (Gneiting & Raftery, 2007, doi:10.1198/016214506000001437, section 4.3; over squares: Pacchiardi et
    al., 2024, arXiv:2112.08217; in generative networks: Shen & Meinshausen, 2024, arXiv:2404.13649) Squares overlap by
    half. The network is residual convolutions on squares of patch×patch pixels. Noise is multiplied by `temperature` unless
    another is asked for.
    """

    rate = 3e-3
    sides = (2, 4, 8)

    def __init__(self, image_shape: Shape, width: Positive = 32, blocks: Annotated[int, between(0, 64)] = 2,
                 patch: Annotated[int, one_of(1, 2, 4, 8)] = 2,
                 temperature: Annotated[float, above(0, up_to=1)] = 0.5) -> None:
        super().__init__(image_shape)
        (c, *size), self.temperature = image_shape, temperature
        self.net = nn.Sequential(
            Patches(patch), nn.Conv2d(2 * c * patch**2, width, 3, padding=1), *(Residual(width) for _ in range(blocks)),
            nn.SiLU(), zeroed(nn.Conv2d(width, c * patch**2, 3, padding=1)), Unpatch(patch, (size[0], size[1])))

    def drawn(self, means: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return means + self.scale * self.net(torch.cat([2 * means - 1, noise], 1)).float()

    def loss(self, x: Float[Tensor, "n c h w"], means: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
        """The score of two draws, the sum over sides of squares, in units of `scale`."""
        twice = means.repeat(2, 1, 1, 1)
        a, b = self.drawn(twice, torch.randn_like(twice)).chunk(2)
        a, b, x = (each / self.scale for each in (a, b, x))
        return sum(energy_score(a, b, x, side) for side in self.sides) + x.new_zeros(len(x))

    def forward(self, means: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"], temperature: float | None = None
                ) -> Float[Tensor, "n c h w"]:
        with no_autocast(means):
            return self.drawn(means, (self.temperature if temperature is None else temperature) * noise)


def energy_score(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"], side: int
                 ) -> Float[Tensor, "n"]:
    """½ ‖a − x‖ + ½ ‖b − x‖ − ½ ‖a − b‖ of each image, the mean over squares of `side` pixels that overlap by half; norms
    are root mean squares of the values in a square."""
    return 0.5 * (_apart(a, x, side) + _apart(b, x, side) - _apart(a, b, side))


def _apart(a: Tensor, b: Tensor, side: int) -> Tensor:
    squares = (min(side, a.shape[2]), min(side, a.shape[3]))
    square = F.avg_pool2d((a - b).square().mean(1, keepdim=True), squares, max(side // 2, 1), ceil_mode=True)
    return (square + LEAST).sqrt().mean((1, 2, 3))


def build_refiner(what: str, image_shape: Shape) -> Refiner:
    """The refiner that a part call names.

    Raises:
        UsageError: an unknown part, or arguments that do not fit.
    """
    if parse_call(what).name in registry.velocity.parts:
        raise UsageError(f"{what} is a network that a refiner may use: write refiner \"flow_matching({what!r})\"")
    return REFINERS.make(what, image_shape)
