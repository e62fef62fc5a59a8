"""A resampler accepts those draws of a prior that could be the code of an image.

    p(z) = π(z) a(z) / Z,    a(z) = min(1, exp(s(x̂(z)) − c)),    Z = E_π a

π is the prior, x̂(z) the decoder's image, and s the log odds, by a small classifier, that it comes from a code of an image,
z ~ q(z | x), rather than from π. At its best, and where the decoder tells codes apart, s = log q(z) / π(z) with q(z) the
average of q(z | x) over images. Then p is q itself for c at the greatest s, and for a lower c what of q lies under e^c π,
at the price of fewer draws thrown away. A GAN has no q(z | x): there s is the log odds of images themselves against
draws. It is no adversarial game: model and prior stay as they are. (Azadi et
al., 2019, arXiv:1810.06758, of a GAN's images; of priors: Bauer & Mnih, 2019, arXiv:1810.11428, and with a classifier of
codes Aneja et al., 2021, arXiv:2010.02917)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..nets.critic import make_critic
from ..tensors import Shape, at_once

KEPT = 0.2
"""Fraction of the prior's draws that is accepted."""
TRIES = 50
"""Draws per code, after which the rest are taken without being judged, so that sampling ends."""


class Resampler(nn.Module):
    """A classifier of decoded images, (n, C, H, W), and the threshold above which it accepts them."""

    level: Tensor
    rate = 2e-3
    """The learning rate that suits it."""

    def __init__(self, net: str, image_shape: Shape) -> None:
        super().__init__()
        self.critic = make_critic(net, image_shape)
        self.at_once = at_once(image_shape)
        self.register_buffer("level", torch.zeros(()))

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
        """Log odds that an image comes from a code of an image, or of a GAN's that it is an image."""
        return self.critic(images)

    def loss(self, of_images: Float[Tensor, "n c h w"], of_draws: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
        """Cross-entropy of telling the two apart, nats; 2 log 2 where they are alike."""
        real, drawn = self(torch.cat([of_images, of_draws])).chunk(2)
        return F.softplus(-real) + F.softplus(drawn)

    def settle(self, odds: Float[Tensor, "n"], kept: float = KEPT) -> None:
        """Sets the acceptance threshold so that a fraction `kept` of prior draws is accepted, given the log odds of some."""
        self.level.copy_(level_of(odds, kept))

    def acceptance(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
        """The probability that each is accepted, min(1, exp(log odds − level))."""
        return (self(images) - self.level).exp().clamp(max=1)

    def keeps(self, images: Float[Tensor, "n c h w"]) -> Bool[Tensor, "n"]:
        """Which of them are accepted."""
        a = self.acceptance(images)
        return torch.rand(a.shape, device=a.device) < a

    def chosen(self, n: int, draw: Callable[[int], Tensor], image_of: Callable[[Tensor], Tensor]) -> Tensor:
        """n accepted codes, (n, *d), from batches of `draw(count)`, which `image_of` decodes."""
        kept, missing, tries = list[Tensor](), n, TRIES * max(n, 1)
        while missing > 0 and tries > 0:
            z = draw(min(math.ceil(1.2 * missing / KEPT), self.at_once))
            tries -= len(z)
            kept.append(z[self.keeps(image_of(z))][:missing])
            missing -= len(kept[-1])
        return torch.cat([*kept, draw(missing)] if missing > 0 or not kept else kept)


def level_of(odds: Float[Tensor, "n"], kept: float = KEPT) -> Float[Tensor, ""]:
    """The c at which min(1, exp(s − c)) is `kept` on average over log odds s, by bisection."""
    odds = odds.cpu().double()
    low, high = odds.min(), odds.max() - math.log(kept)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (odds - middle).exp().clamp(max=1).mean() > kept else (low, middle)
    return low.float()
