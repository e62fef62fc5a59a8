"""A prior that carries noise to the codes of a trained model along a learned velocity."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...distributions.base import FromNoise, choice
from ...errors import UsageError
from ...parts.ranges import at_least, between
from ...parts.registry import prior
from ...tensors import no_autocast
from ..draw import Draw
from ..rectified_flow import Velocity
from ..space import Space
from .base import Prior, Standardize

MOST_DENSE = 512
"""Numbers in a map of codes up to which dense layers over all of them are the default."""


@dataclass(frozen=True)
class Transported(FromNoise):
    """The law of codes that a velocity carries N(0, I) to."""

    prior: FlowMatching

    @property
    def mean(self) -> Tensor:
        """The code that the noise's mean is carried to: the law has no closed mean."""
        return self.prior.carried(torch.zeros(1, *self.prior.shape, device=self.prior.device), self.prior.steps)[0]

    def noise(self, n: int) -> Tensor:
        return self.prior.noise(n)

    def from_noise(self, u: Tensor, temperature: float = 1.0) -> Tensor:
        return self.prior.from_noise(u, Draw(temperature))

    def log_prob(self, value: Tensor) -> Tensor:
        leading = value.shape[: value.dim() - len(self.prior.shape)]
        with no_autocast(value):
            u = self.prior.whitening(value.float().reshape(-1, *self.prior.shape))
            log_p = self.prior.velocity.log_prob(u, self.prior.steps)
        return (log_p + self.prior.whitening.log_det).reshape(leading)


@prior("flow_matching")
class FlowMatching(Prior):
    """Rectified flow on standardised codes, fitted to those of a trained model: for maps of codes, and for classes.

    `net` is one of mlp, unet and dit with its sizes, 'mlp(320, 3)'; auto takes mlp up to 512 numbers and unet beyond.
    Draws take `steps` of Heun's method, two evaluations each. With `classes`, labels steer the draws, and where none is
    asked for each draw gets one, as often as the codes had it. `models/rectified_flow.py` has the equations. (Lipman et al.,
    2023, arXiv:2210.02747; on latents: Dao et al., 2023, arXiv:2307.08698)
    """

    joint: ClassVar[bool] = False

    frequencies: Tensor
    """How often codes have no label, and each of the classes."""

    def __init__(self, space: Space, net: str = "auto", steps: Annotated[int, between(1, 1000)] = 10,
                 classes: Annotated[int, at_least(0)] = 0) -> None:
        super().__init__(space)
        if net == "auto":
            net = "mlp" if math.prod(self.shape) <= MOST_DENSE or len(self.shape) == 1 else "unet"
        self.steps = steps
        self.whitening = Standardize(self.shape)
        self.velocity = Velocity(net, self.shape, classes=classes)
        self.rate, self.batch = self.velocity.rate, self.velocity.batch
        self.register_buffer("frequencies", torch.ones(classes + 1))

    @property
    def device(self) -> torch.device:
        return self.whitening.loc.device

    def forward(self) -> Transported:
        return Transported(self)

    def prepare(self, codes: Float[Tensor, "n *d"], y: Int[Tensor, "n"] | None = None) -> None:
        self.whitening.fit(codes)
        if y is not None:
            self.frequencies.copy_(torch.bincount(y + 1, minlength=len(self.frequencies)))

    def loss(self, z: Float[Tensor, "b *d"], y: Int[Tensor, "b"] | None = None) -> Float[Tensor, "b"]:
        return self.velocity.loss(self.whitening(z), y)

    def noise(self, n: int) -> Float[Tensor, "n k"]:
        return torch.randn(n, math.prod(self.shape) + (self.velocity.classes > 0), device=self.device)

    @torch.no_grad()
    def from_noise(self, u: Float[Tensor, "n k"], options: Draw = Draw()) -> Float[Tensor, "n *d"]:
        """Of a prior that knows classes the last number chooses one, where none is asked for."""
        classes, dims = self.velocity.classes, math.prod(self.shape)
        if options.label is not None and not 0 <= options.label < classes:
            raise UsageError(f"this prior knows the classes 0 to {classes - 1}; got {options.label}"
                             if classes else NO_CLASSES)
        if options.guidance != 1 and not classes:
            raise UsageError(NO_CLASSES)
        y = None
        if classes:  # p(z) = Σ_y p(y) p(z | y), of which every part has learned from all codes of its class
            drawn = choice(self.frequencies / self.frequencies.sum(), u[:, dims]) - 1
            y = drawn if options.label is None else torch.full_like(drawn, options.label)
        noise = options.one_temperature * u[:, :dims].reshape(-1, *self.shape)
        return self.carried(noise, options.steps or self.steps, y, options.guidance)

    @torch.no_grad()
    def carried(self, noise: Float[Tensor, "n *d"], steps: int, y: Int[Tensor, "n"] | None = None, guidance: float = 1.0
                ) -> Float[Tensor, "n *d"]:
        """The codes that noise becomes."""
        with no_autocast(noise):
            return self.whitening.inverse(self.velocity.carry(noise, steps, y=y, guidance=guidance))


NO_CLASSES = ("this prior was fitted without labels: fit one where images have them, in sub-folders or an array 'labels', "
              "with reparam fit-prior RUN --prior flow_matching")
