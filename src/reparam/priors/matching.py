"""A prior that carries noise to the codes of a trained model along a learned velocity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..distributions import Distribution
from ..errors import UsageError
from ..nets.layers import no_autocast
from ..registry import prior
from ..space import Space
from ..transport import Velocity
from .base import Draw, Prior, Whitening

MOST_DENSE = 512
"""Numbers in a map of codes up to which dense layers over all of them are the default."""


@dataclass(frozen=True)
class Transported(Distribution):
    """The law of codes that a velocity carries N(0, I) to."""

    prior: FlowMatching

    @property
    def mean(self) -> Tensor:
        """Where the noise's mean is carried, which stands for the middle of the distribution."""
        return self.prior.carried(torch.zeros(1, *self.prior.shape, device=self.prior.device), Draw())[0]

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self.prior.draw(shape, Draw())

    def tempered(self, shape: tuple[int, ...], temperature: float) -> Tensor:
        return self.prior.draw(shape, Draw(temperature))

    def log_prob(self, value: Tensor) -> Tensor:
        leading = value.shape[: value.dim() - len(self.prior.shape)]
        with no_autocast(value):
            u = self.prior.whitening(value.float().reshape(-1, *self.prior.shape))
            log_p = self.prior.velocity.log_prob(u, self.prior.steps)
        return (log_p + self.prior.whitening.log_det).reshape(leading)


@prior("flow_matching")
class FlowMatching(Prior):
    """Rectified flow on whitened codes, fitted to those of a trained model: for maps of codes, and for classes.

    `net` is one of mlp, unet and dit with its sizes, 'mlp(320, 3)'; auto takes mlp up to 512 numbers and unet beyond.
    Draws take `steps` of Heun's method, two evaluations each. With `classes`, labels steer the draws. `transport.py` has
    the equations. (Lipman et al., 2023, arXiv:2210.02747; on latents: Dao et al., 2023, arXiv:2307.08698)
    """

    joint: ClassVar[bool] = False

    def __init__(self, space: Space, net: str = "auto", steps: int = 10, classes: int = 0) -> None:
        super().__init__(space)
        if not 1 <= steps <= 1000 or classes < 0:
            raise UsageError(f"flow_matching(steps={steps}, classes={classes}): give 1 to 1000 steps, and 0 classes or more")
        if net == "auto":
            net = "mlp" if math.prod(self.shape) <= MOST_DENSE or len(self.shape) == 1 else "unet"
        self.steps = steps
        self.whitening = Whitening(self.shape)
        self.velocity = Velocity(net, self.shape, classes=classes)

    @property
    def device(self) -> torch.device:
        return self.whitening.loc.device

    def forward(self) -> Transported:
        return Transported(self)

    def prepare(self, codes: Float[Tensor, "n *d"]) -> None:
        self.whitening.fit(codes)

    def loss(self, z: Float[Tensor, "b *d"], y: Int[Tensor, "b"] | None = None) -> Float[Tensor, "b"]:
        return self.velocity.loss(self.whitening(z), y)

    def draw(self, shape: tuple[int, ...], how: Draw) -> Tensor:
        noise = torch.randn(math.prod(shape), *self.shape, device=self.device) * how.one_temperature
        return self.carried(noise, how).reshape(*shape, *self.shape)

    def carried(self, noise: Float[Tensor, "n *d"], how: Draw) -> Float[Tensor, "n *d"]:
        """The codes that noise becomes."""
        classes = self.velocity.classes
        if how.label is not None and not 0 <= how.label < classes:
            raise UsageError(f"this prior knows the classes 0 to {classes - 1}; got {how.label}" if classes else NO_CLASSES)
        if how.steps is not None and how.steps < 1:
            raise UsageError(f"steps must be at least 1; got {how.steps}")
        y = None if how.label is None else torch.full((len(noise),), how.label, device=noise.device)
        with torch.no_grad(), no_autocast(noise):
            return self.whitening.inverse(self.velocity.carry(noise, how.steps or self.steps, y=y, guidance=how.guidance))


NO_CLASSES = ("this prior was fitted without labels: fit one where images have them, in sub-folders or an array 'labels', "
              "with reparam fit-prior RUN --prior flow_matching")
