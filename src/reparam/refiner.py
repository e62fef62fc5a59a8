"""A refiner adds to a decoder's image the detail that its code does not hold: it draws x ~ p(x | x̂), given the decoder's x̂.

The code stays what it was, to be seen, edited and searched; the blur that a mean over all fitting images has is gone.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from . import registry
from .distributions import LogisticMixture
from .errors import UsageError
from .likelihoods import LogisticLikelihood
from .nets.layers import Patches, Residual, Shape, Unpatch, no_autocast
from .recipe import parse_call
from .registry import refiner
from .transport import Velocity

ALL = slice(None)


class Refiner(nn.Module):
    """What every refiner does with images (n, C, H, W) in [0, 1] and the decoder's for their codes."""

    scale: Tensor

    def __init__(self, image_shape: Shape) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(image_shape[0], 1, 1))

    def prepare(self, x: Float[Tensor, "n c h w"], means: Float[Tensor, "n c h w"]) -> None:
        """Measures what decoders' images lack, the standard deviation of each channel."""
        self.scale.copy_((x - means).std((0, 2, 3)).clamp(min=1e-4)[:, None, None])

    @abstractmethod
    def loss(self, x: Float[Tensor, "n c h w"], means: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
        """What training makes small."""

    @abstractmethod
    def forward(self, means: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"], temperature: float | None = None
                ) -> Float[Tensor, "n c h w"]:
        """The images that decoders' images become, given N(0, I) noise: the same for the same. A `temperature` below 1 draws
        cleaner images than the law has; by default the refiner's own."""


@refiner("autoregressive")
class AutoregressiveRefiner(Refiner):
    """Draws the pixels of an image group after group, each group given those before it and the decoder's image.

        p(x | x̂) = ∏_g ∏_{i ∈ g} p(x_i | x of the groups before, x̂)

    with mixtures of discretised logistics for p. An image is cut into squares of `side`×`side` pixels, and the pixels at one
    place of every square are a group; groups follow each other in the order of ordered dithering (Bayer, 1973), which leaves
    the smallest gaps for the last. One network, which sees the known pixels and where they are, learns all groups, one at
    random for each image, which estimates −log p without bias. (Reed et al., 2017, arXiv:1703.03664; Hoogeboom et al., 2022,
    arXiv:2110.02037)
    Images are drawn at `temperature` unless another is asked for. `width`, `blocks` and `patch` are those of the network:
    residual convolutions on squares of patch×patch pixels.
    """

    def __init__(self, image_shape: Shape, width: int = 48, blocks: int = 3, patch: int = 2, mixtures: int = 5,
                 side: int = 4, temperature: float = 0.5) -> None:
        super().__init__(image_shape)
        c, h, w = image_shape
        if side not in (1, 2, 4, 8):
            raise UsageError(f"autoregressive(side={side}): the side of a square of groups is 1, 2, 4 or 8")
        if min(width, patch, mixtures) < 1 or not 0 <= blocks <= 64 or not 0 < temperature <= 1:
            raise UsageError(f"autoregressive(width={width}, blocks={blocks}, patch={patch}, mixtures={mixtures}, "
                             f"temperature={temperature}): give a width, a patch and a number of mixtures of at least 1, 0 "
                             "to 64 blocks, and a temperature above 0 and up to 1")
        self.size, self.side, self.temperature = (h, w), side, temperature
        self.likelihood = LogisticLikelihood(image_shape, mixtures)
        self.net = nn.Sequential(
            Patches(patch), nn.Conv2d((2 * c + 1) * patch**2, width, 3, padding=1),
            *(Residual(width) for _ in range(blocks)), nn.SiLU(),
            nn.Conv2d(width, self.likelihood.channels * patch**2, 3, padding=1), Unpatch(patch, (h, w)))

    @property
    def order(self) -> Tensor:
        """The number of each pixel's group, (H, W)."""
        h, w = self.size
        return dithered(self.side).repeat(-(-h // self.side), -(-w // self.side))[:h, :w].to(self.scale.device)

    def given(self, x: Float[Tensor, "n c h w"], means: Float[Tensor, "n c h w"], known: Float[Tensor, "n 1 h w"],
              rows: slice = ALL, columns: slice = ALL) -> LogisticMixture:
        """p of each pixel in `rows` and `columns`, given the pixels of x that are `known` (1, else 0)."""
        centre = 2 * means - 1
        params = self.net(torch.cat([centre, known * (x - means) / self.scale, known], 1))
        p, centre = self.likelihood(params[..., rows, columns]), centre[:, None, :, rows, columns]
        return replace(p, means=p.means + centre - (p.chain * centre[:, :, None]).sum(-3))  # links, too, are of x − x̂

    def loss(self, x: Float[Tensor, "n c h w"], means: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
        """−log p(x | x̂) / (C·H·W) of each image, nats, estimated by the group of one pixel at random."""
        order = self.order
        group = order.flatten()[torch.randint(order.numel(), (len(x), 1, 1), device=x.device)]
        p = self.given(x, means, (order < group)[:, None].to(x.dtype)).log_prob_of_pixels(x)
        drawn = (order == group).to(x.dtype)
        return -(drawn * p).sum((1, 2)) / (x.shape[1] * drawn.sum((1, 2)))

    def forward(self, means: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"], temperature: float | None = None
                ) -> Float[Tensor, "n c h w"]:
        t = self.temperature if temperature is None else temperature
        x, known, u = means.clone(), torch.zeros_like(means[:, :1]), torch.special.ndtr(noise)
        for place in dithered(self.side).flatten().argsort().tolist():
            at = (..., slice(place // self.side, None, self.side), slice(place % self.side, None, self.side))
            x[at] = self.given(x, means, known, *at[1:]).sharpened(t).from_uniform(u[at])
            known[at] = 1
        return x


def dithered(side: int) -> Tensor:
    """The numbers 0 … side² − 1 in a square, side a power of 2, so that each stands far from those little less than it."""
    square = torch.zeros(1, 1, dtype=torch.long)
    while len(square) < side:
        square = torch.cat([torch.cat([4 * square, 4 * square + 2], 1), torch.cat([4 * square + 3, 4 * square + 1], 1)])
    return square


@refiner("flow_matching")
class FlowRefiner(Refiner):
    """A rectified flow in pixels that carries noise to what the decoder's image lacks, and sees that image.

    x = x̂ + s r with r ~ p(r | x̂) and s the standard deviation of x − x̂. `net` is a velocity, such as unet(32, patch=2) or
    dit; images take `steps` of Heun's method. (Pandey et al., 2022, arXiv:2201.00308, with diffusion)
    """

    def __init__(self, image_shape: Shape, net: str = "unet(32, patch=2)", steps: int = 8) -> None:
        super().__init__(image_shape)
        if parse_call(net).name == "mlp":
            raise UsageError(f"the refiner's network {net!r} would see an image as a list of numbers: use unet or dit, such "
                             "as 'unet(32, patch=2)'")
        if steps < 1:
            raise UsageError(f"flow_matching(steps={steps}): a flow takes at least one step")
        self.steps, self.velocity = steps, Velocity(net, image_shape, context=image_shape[0])

    def loss(self, x: Float[Tensor, "n c h w"], means: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
        """Squared error of the velocity, the mean over pixel values."""
        return self.velocity.loss((x - means) / self.scale, context=2 * means - 1)

    def forward(self, means: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"], temperature: float | None = None
                ) -> Float[Tensor, "n c h w"]:
        noise = noise if temperature is None else temperature * noise
        with no_autocast(means):
            return means + self.scale * self.velocity.carry(noise, self.steps, context=2 * means - 1)


def build_refiner(what: str, image_shape: Shape) -> Refiner | None:
    """The refiner that a recipe names; None for 'none'.

    Raises:
        UsageError: an unknown part, or arguments that do not fit.
    """
    if (name := parse_call(what).name) == "none":
        return None
    if name in registry.velocity.parts:
        raise UsageError(f"{what} is a network that a refiner may use: write refiner \"flow_matching({what!r})\"")
    return registry.refiner.make(what, image_shape)
