"""Latents with class labels: a code is z beside the one-hot class, so that the decoder reads both.

`conditional` is given the class, p(x | z, y); `semi_supervised` infers it where it is not given. The class is part of a
code: change it, and the same style is drawn as another class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor, nn

from ...distributions.base import Distribution, Reparameterized, choice, closed_kl
from ...errors import UsageError
from ...nets.layers import to_latent
from ...parts import registry
from ...parts.ranges import at_least, between
from ...tensors import Shape, one_hot
from ..draw import Draw
from ..priors import Prior
from ..trace import Layer
from .base import Latents, LatentSpec, MakePosterior, MakePrior, Observed, unfolded
from .flat import OneLayer

TEMPERATURE = 2 / 3
"""Of the relaxation that the gradient of an inferred class goes through (Maddison et al., 2017, arXiv:1611.00712)."""


def joined(h: Tensor, classes: Tensor) -> Tensor:
    """Features (n, F) or (n, C, h, w) with the one-hot class (n, classes) as further features."""
    planes = classes.to(h.dtype)
    return torch.cat([h, planes[..., None, None].expand(-1, -1, *h.shape[2:]) if h.dim() == 4 else planes], 1)


class Classed(Latents):
    """One layer of real numbers beside a class: codes and decoder's input are (z, one-hot class)."""

    def __init__(self, layer: OneLayer, classes: int) -> None:
        super().__init__()
        self.layer, self.classes = layer, classes
        self.space = layer.space
        self.shape = self.decoder_input = (layer.shape[0] + classes,)

    def one_hot(self, y: Tensor | None, like: Tensor) -> Tensor:
        """(B, classes); zeros where the class is not known."""
        if y is None:
            return like.new_zeros(like.shape[0], self.classes, dtype=torch.float32)
        return one_hot(y, self.classes)  # of −1: zeros

    def seen_with(self, seen: Observed, classes: Tensor) -> Observed:
        """What is known of the images beside their one-hot classes (B, classes): the posterior of z reads both."""
        return Observed(joined(seen.h, classes),
                        lambda z: seen.log_px(torch.cat([z, classes.expand(z.shape[0], *classes.shape)], 2)))

    def read(self, code: Tensor) -> Tensor:
        return code

    @property
    def top_prior(self) -> Prior:
        return self.layer.top_prior

    def noise(self, n: int, prior: Prior | None = None) -> Tensor:
        z = self.layer.noise(n, prior)
        return torch.cat([z, torch.randn(n, 1, device=z.device)], 1)

    def from_noise(self, u: Tensor, options: Draw = Draw(), prior: Prior | None = None) -> Tensor:
        """The last number chooses a class, where none is asked for and the model does not leave it out."""
        if options.label is not None and not 0 <= options.label < self.classes:
            raise UsageError(f"this model knows the classes 0 to {self.classes - 1}; got {options.label}")
        z, y = self.layer.from_noise(u[:, :-1], replace(options, label=None), prior), self._default_classes(u[:, -1])
        if options.label is not None:
            y = torch.full_like(u[:, -1], options.label, dtype=torch.int64)
        return torch.cat([z, self.one_hot(y, z)], 1)

    def log_density(self, code: Tensor, prior: Prior | None = None) -> Tensor:
        """Of z, which does not depend on the class."""
        return self.layer.log_density(code[:, : -self.classes], prior)

    def _default_classes(self, u: Tensor) -> Tensor | None:
        """Classes (n,) of codes generated without a label, by a standard normal number (n,) each; None leaves them out."""
        return None


class Conditional(Classed):
    """q(z | x, y) and p(x | z, y), with y left out at random in training, so that the model works without it too."""

    def __init__(self, layer: OneLayer, classes: int, dropout: float) -> None:
        super().__init__(layer, classes)
        self.dropout = dropout

    def infer(self, seen: Observed, samples: int, y: Tensor | None = None) -> tuple[Tensor, tuple[Layer, ...]]:
        known = self.one_hot(y, seen.h)
        if self.training:
            known = known * (torch.rand(known.shape[0], 1, device=known.device) >= self.dropout)
        z, layers = self.layer.infer(self.seen_with(seen, known), samples)
        return torch.cat([z, known.expand(samples, *known.shape)], 2), layers

    def code(self, seen: Observed, *, sample: bool = False) -> Tensor:
        known = self.one_hot(None, seen.h)
        return torch.cat([self.layer.code(self.seen_with(seen, known), sample=sample), known], 1)


@dataclass(frozen=True)
class ClassPosterior(Reparameterized):
    """q(y | x) over one-hot classes, a point where the class is known; draws pass gradients straight through.

    (Jang et al., 2017, arXiv:1611.01144)
    """

    logits: Tensor  # (B, classes)
    known: Tensor  # (B, classes), one-hot, or zeros

    @property
    def observed(self) -> Tensor:
        """(B,), 1 where the class is known."""
        return self.known.sum(-1)

    @property
    def mean(self) -> Tensor:
        """The likeliest class, one-hot."""
        best = one_hot(self.logits.argmax(-1), self.logits.shape[-1])
        return self.known + (1 - self.observed)[:, None] * best

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        uniform = torch.rand((*shape, *self.logits.shape), device=self.logits.device).clamp(1e-9, 1 - 1e-7)
        soft = ((self.logits - (-uniform.log()).log()) / TEMPERATURE).softmax(-1)
        hard = one_hot(soft.argmax(-1), soft.shape[-1]) + (soft - soft.detach())
        return self.known + (1 - self.observed)[:, None] * hard

    def log_prob(self, value: Tensor) -> Tensor:
        return (1 - self.observed) * (value * self.logits.log_softmax(-1)).sum(-1)


@dataclass(frozen=True)
class UniformClass(Distribution):
    """p(y) = 1 / classes over one-hot classes."""

    weights: Tensor  # (classes,), all equal

    @property
    def mean(self) -> Tensor:
        return self.weights

    def sample(self, shape: tuple[int, ...] = ()) -> Tensor:
        n = len(self.weights)
        return one_hot(torch.randint(n, shape, device=self.weights.device), n)

    def log_prob(self, value: Tensor) -> Tensor:
        return value.new_full(value.shape[:-1], -math.log(len(self.weights)))


@closed_kl(ClassPosterior, UniformClass)
def _class_kl(q: ClassPosterior, p: UniformClass) -> Tensor:
    """Σ_y q(y | x) log q(y | x) + log n where the class is inferred, log n where it is known."""
    log_q = q.logits.log_softmax(-1)
    return (1 - q.observed) * (log_q.exp() * log_q).sum(-1) + math.log(len(p.weights))


class SemiSupervised(Classed):
    """The model M2: q(y | x) q(z | x, y) under p(y) p(z), with y observed where a label is known.

    (Kingma et al., 2014, arXiv:1406.5298, section 2.1; the sum over classes by relaxed draws as in Jang et al., 2017)
    """

    weights: Tensor

    def __init__(self, layer: OneLayer, classes: int, features: Shape) -> None:
        super().__init__(layer, classes)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(features), 256), nn.SiLU(),
                                        to_latent((256,), (classes,)))
        self.register_buffer("weights", torch.full((classes,), 1 / classes))

    def infer(self, seen: Observed, samples: int, y: Tensor | None = None) -> tuple[Tensor, tuple[Layer, ...]]:
        h = seen.h
        q_y = ClassPosterior(self.classifier(h).float(), self.one_hot(y, h))
        drawn = q_y.rsample((samples,))
        repeated = h.expand(samples, *h.shape).flatten(0, 1)
        q_z = unfolded(self.layer.posterior(joined(repeated, drawn.flatten(0, 1))), (samples, h.shape[0]))
        z = q_z.rsample()
        return (torch.cat([z, drawn], 2),
                (Layer(drawn, q_y, UniformClass(self.weights)), Layer(z, q_z, self.layer.prior())))

    def probabilities(self, h: Tensor) -> Tensor:
        """q(y | x) of images with features h, (B, classes)."""
        return self.classifier(h).float().softmax(1)

    def code(self, seen: Observed, *, sample: bool = False) -> Tensor:
        q_y = ClassPosterior(self.classifier(seen.h).float(), self.one_hot(None, seen.h))
        chosen = q_y.sample() if sample else q_y.mean
        return torch.cat([self.layer.code(self.seen_with(seen, chosen), sample=sample), chosen], 1)

    def _default_classes(self, u: Tensor) -> Tensor:
        return choice(self.weights, u)


@dataclass(frozen=True)
class LabelledSpec(LatentSpec):
    """Shapes of a latent with classes before its parts are made."""

    dim: int
    classes: int
    dropout: float | None
    """Of labels; None where they are inferred instead."""

    def build(self, features: Shape, posterior: MakePosterior, prior: MakePrior) -> Classed:
        q = posterior((features[0] + self.classes, *features[1:]), (self.dim,))
        if q.space.kind != "real":
            raise UsageError("a latent with classes holds real numbers beside them: choose the posterior gaussian")
        layer = OneLayer(q, prior(q, False), (self.dim,))
        if self.dropout is None and (q.asks or q.in_pairs):
            raise UsageError("the latent semi_supervised draws z for each class that it infers, and this posterior is for "
                             "latents drawn for an image: choose the posterior gaussian, or the latent conditional")
        if self.dropout is None:
            return SemiSupervised(layer, self.classes, features)
        return Conditional(layer, self.classes, self.dropout)


Dim = Annotated[int, at_least(1)]
Classes = Annotated[int, at_least(2)]


@registry.latent("conditional")
def conditional(image_shape: Shape, dim: Dim, classes: Classes = 10,
                dropout: Annotated[float, between(0, 1)] = 0.1) -> LabelledSpec:
    """One vector beside the image's class, which is left out for a share of the training images: a conditional VAE.

    Left out, the model learns p(x) beside p(x | y), as classifier-free guidance needs it. (Sohn et al., 2015, "Learning
    structured output representation using deep conditional generative models"; Ho & Salimans, 2022, arXiv:2207.12598)
    """
    return LabelledSpec(None, dim, classes, dropout)


@registry.latent("semi_supervised")
def semi_supervised(image_shape: Shape, dim: Dim, classes: Classes = 10) -> LabelledSpec:
    """One vector beside a class that is inferred where no label is known: Kingma's M2, for few labels.

    Train it on "nll + kl + 50*classify" with --labelled 100, and with --augment, since few labels are soon learned by
    heart. (Kingma et al., 2014, arXiv:1406.5298)
    """
    return LabelledSpec(None, dim, classes, None)
