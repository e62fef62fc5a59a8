"""Penalties that keep a critic smooth."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import UsageError
from ...nets.critic import Critic
from ...parallel import averaged
from ...parts import registry
from ...parts.call import Call, parse_sum
from ...parts.ranges import at_least
from ...parts.registry import penalty
from ...tensors import Shape
from ..weights import WEIGHTS, AdaptiveWeight, Weight, constant

Inputs = tuple[Tensor, ...]
"""What a critic reads: images (n, C, H, W), codes (n, *d), or both."""


class Scored(NamedTuple):
    """A critic's scores of real inputs and of fakes, for its penalties."""

    critic: Callable[..., Tensor]
    real: Inputs
    fake: Inputs
    real_scores: Tensor
    fake_scores: Tensor


class Penalty(nn.Module, ABC):
    """Keeps a critic smooth, by a term of its loss or a change of its layers."""

    differentiates = False
    """Whether it takes the gradient at the inputs."""

    def __init__(self) -> None:
        super().__init__()

    def attach(self, critic: nn.Module, image_shape: Shape) -> None:
        """Changes the critic before training, or makes what the penalty needs; does nothing for most."""

    @abstractmethod
    def forward(self, scored: Scored) -> Float[Tensor, ""]: ...


PENALTIES = registry.penalty.of(Penalty)


def slope(scores: Tensor, inputs: Inputs) -> Float[Tensor, "n"]:
    """‖∇D‖² of each input, with a graph for its own gradient; the scores of an input's places are averaged."""
    gradients = torch.autograd.grad(scores.flatten(1).mean(1).sum() if scores.dim() > 1 else scores.sum(), inputs,
                                    create_graph=True)
    return torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0)


class _Slope(Penalty):
    """½ ‖∇D‖² on one side: exactly, or with `noise` by the difference that Gaussian noise of that deviation makes,
    E ½ (D(x + σε) − D(x))² / σ², which costs a third of the exact one."""

    def __init__(self, noise: Annotated[float, at_least(0)] = 0.0) -> None:
        super().__init__()
        self.noise, self.differentiates = noise, not noise

    def of(self, critic: Callable[..., Tensor], inputs: Inputs, scores: Tensor) -> Tensor:
        if not self.noise:
            return 0.5 * slope(scores, inputs).mean()
        moved = critic(*(x + self.noise * torch.randn_like(x) for x in inputs))
        change = (moved - scores).flatten(1).mean(1) if scores.dim() > 1 else moved - scores
        return 0.5 * (change / self.noise).square().mean()


@penalty("r1")
class R1(_Slope):
    """½ ‖∇D‖² at real inputs; `noise` estimates it by finite differences of that size, faster (Mescheder et al., 2018,
    arXiv:1801.04406)."""

    def forward(self, scored: Scored) -> Tensor:
        return self.of(scored.critic, scored.real, scored.real_scores)


@penalty("r2")
class R2(_Slope):
    """½ ‖∇D‖² at the model's own; `noise` as for r1 (Mescheder et al., 2018, arXiv:1801.04406)."""

    def forward(self, scored: Scored) -> Tensor:
        return self.of(scored.critic, scored.fake, scored.fake_scores)


@penalty("gradient")
class Gradient(Penalty):
    """(‖∇D‖ − 1)² at points between real inputs and fakes (Gulrajani et al., 2017, arXiv:1704.00028): weight 10."""

    def forward(self, scored: Scored) -> Tensor:
        first = scored.real[0]
        t = torch.rand(len(first), dtype=first.dtype, device=first.device)
        at = tuple(torch.lerp(r, f, t.view(-1, *(1,) * (r.dim() - 1))).requires_grad_()
                   for r, f in zip(scored.real, scored.fake, strict=True))
        return ((slope(scored.critic(*at), at) + 1e-12).sqrt() - 1).square().mean()


@penalty("lecam")
class LeCam(Penalty):
    """Scores are drawn to the running average of the other side's, for little data (Tseng et al., 2021, arXiv:2104.03310):
    weight 0.1 to 0.3."""

    averages: Tensor

    def __init__(self, decay: Annotated[float, at_least(0, below=1)] = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("averages", torch.zeros(2))

    def forward(self, scored: Scored) -> Tensor:
        means = averaged(torch.stack([scored.real_scores.detach().mean(), scored.fake_scores.detach().mean()]))
        moved = torch.lerp(means, self.averages, self.decay)
        self.averages = torch.where(means.isfinite(), moved, self.averages)  # a skipped step must not change them
        real, fake = self.averages
        return (scored.real_scores - fake).square().mean() + (scored.fake_scores - real).square().mean()


@penalty("spectral_norm")
class SpectralNorm(Penalty):
    """Divides each layer's weight by its largest singular value, estimated by power iteration; adds no loss (Miyato et al.,
    2018, arXiv:1802.05957). Layers that would start at zero start at random, since zero has no direction to keep."""

    def attach(self, critic: nn.Module, image_shape: Shape) -> None:
        for module in list(critic.modules()):
            if isinstance(module, nn.Linear | nn.Conv2d):
                if not module.weight.any():
                    module.reset_parameters()
                nn.utils.parametrizations.spectral_norm(module)

    def forward(self, scored: Scored) -> Tensor:
        return scored.real_scores.new_zeros(())


class _Pictures(nn.Sequential):
    """Images of a map of features: as many doublings of its sides, and halvings of its channels, as asked."""

    def __init__(self, features: int, doublings: int, channels: int) -> None:
        widths = [features, *(max(features // 2**i, 16) for i in range(1, doublings + 1))]
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Conv2d(a, 4 * b, 3, padding=1), nn.PixelShuffle(2), nn.BatchNorm2d(b), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(widths[-1], channels, 3, padding=1))


@penalty("reconstruct")
class Reconstruct(Penalty):
    """Mean absolute error of what two small decoders make of the critic's last map of real images: the whole at half its
    size, and a quarter, anywhere, at its own. So a critic that sees few images looks at all that is in them. Half of each
    batch serves for it. (Liu et al., 2021, arXiv:2101.04775, section 3.2, Eq. 3): weight 1."""

    def attach(self, critic: nn.Module, image_shape: Shape) -> None:
        features: Shape = critic.trunk.features if isinstance(critic, Critic) else ()
        if len(features) != 3 or min(features[1:]) < 2:
            raise UsageError("the penalty reconstruct makes images of a critic's map of features, and this critic has none "
                             "of 2×2 places or more: give a convolutional one, such as fastgan or dcgan")
        doublings = max(round(math.log2(image_shape[1] / features[1])) - 1, 0)
        self.whole = _Pictures(features[0], doublings, image_shape[0])
        self.quarter = _Pictures(features[0], doublings + 1, image_shape[0])

    def forward(self, scored: Scored) -> Tensor:
        if not isinstance(scored.critic, Critic):
            raise UsageError("the penalty reconstruct is for a critic that has been attached to it")
        x = scored.real[0].detach()
        x = x[: -(-len(x) // 2)]
        h = scored.critic.features(x)
        part_x, part_h = same_quarter(x, h)
        return _absolute_error(self.whole(h), x) + _absolute_error(self.quarter(part_h), part_x)


def same_quarter(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """A window of half the places a side of a map, anywhere, and the pixels that it stands for."""
    for dim in (2, 3):
        places, pixels = h.shape[dim], x.shape[dim]
        start = int(torch.randint(places - places // 2 + 1, ()))
        x = x.narrow(dim, start * pixels // places, places // 2 * pixels // places)
        h = h.narrow(dim, start, places // 2)
    return x, h


def _absolute_error(made: Tensor, x: Tensor) -> Tensor:
    """Against images at the size of what was made of them."""
    return (made - F.adaptive_avg_pool2d(x, (made.shape[2], made.shape[3]))).abs().mean()


def parse_penalties(text: str) -> list[tuple[Weight, Penalty]]:
    """Reads '10*r1 + cosine(0.5, 0.05)*r2', with the schedules that terms of the objective take; 'none' is an empty list.

    Raises:
        UsageError: an unknown penalty or schedule, or a weight that is or becomes negative, or adapts itself.
    """
    if text == "none":
        return []
    return [(_penalty_weight(weight, text), PENALTIES.make(call)) for weight, call in parse_sum(text)]


def _penalty_weight(given: float | Call, text: str) -> Weight:
    weight = WEIGHTS.make(given) if isinstance(given, Call) else constant(given)
    if isinstance(weight, AdaptiveWeight):
        raise UsageError(f"{weight} in {text!r} adapts to a term of the objective: give a penalty a number, or a schedule "
                         "such as cosine(0.5, 0.05)")
    if not all(0 <= weight(step / 100) < math.inf for step in range(101)):
        raise UsageError(f"a penalty's weight in {text!r} is at least 0 and finite throughout: a number, or a schedule such "
                         "as cosine(0.5, 0.05)")
    return weight
