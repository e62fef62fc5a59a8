"""A refiner adds to a decoder's image the detail that its code does not hold.

    x = x̂(z) + s r,    r ~ p(r | x̂),    s the standard deviation of x − x̂ in each channel

with p(r | x̂) a rectified flow in pixel space that sees the decoder's image x̂ beside the noise that it carries. The code
stays what it was, to be seen, edited and searched; the blur that a mean over all fitting images has is gone. (Pandey et
al., 2022, arXiv:2201.00308, with diffusion)
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .errors import UsageError
from .nets.layers import Shape, no_autocast
from .recipe import parse_call
from .transport import Velocity


class Refiner(nn.Module):
    """Draws images x given the decoder's x̂, (n, C, H, W), by `steps` of Heun's method."""

    scale: Tensor

    def __init__(self, net: str, image_shape: Shape, steps: int = 8) -> None:
        super().__init__()
        self.steps = steps
        self.velocity = Velocity(net, image_shape, context=image_shape[0])
        self.register_buffer("scale", torch.ones(image_shape[0], 1, 1))

    def prepare(self, x: Float[Tensor, "n c h w"], means: Float[Tensor, "n c h w"]) -> None:
        """Measures what decoders' images lack."""
        self.scale.copy_((x - means).std((0, 2, 3)).clamp(min=1e-4)[:, None, None])

    def loss(self, x: Float[Tensor, "n c h w"], means: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
        """Squared error of the velocity, the mean over pixel values."""
        return self.velocity.loss((x - means) / self.scale, context=2 * means - 1)

    def forward(self, means: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """The images that decoders' images become, given noise."""
        with no_autocast(means):
            return means + self.scale * self.velocity.carry(noise, self.steps, context=2 * means - 1)


def build_refiner(what: str, image_shape: Shape) -> Refiner | None:
    """The refiner that a recipe names by its network, 'unet(32, patch=2)'; None for 'none'.

    Raises:
        UsageError: an unknown network, or one that does not move maps.
    """
    if parse_call(what).name == "none":
        return None
    if parse_call(what).name == "mlp":
        raise UsageError(f"the refiner {what!r} would see an image as a list of numbers: use unet or dit, such as "
                         "'unet(32, patch=2)'")
    return Refiner(what, image_shape)
