"""Latents: how z is inferred from an image and generated without one.

A latent part is chosen by its shape alone; `build` then gives it its posterior and prior. Beside the draws that a trace
holds, a latent has a code: the numbers by which people know an image, (B, *shape), that `read` turns into what the
decoder reads. For one layer of real numbers all three are the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TypeVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from ...distributions.base import Reparameterized
from ...errors import UsageError
from ...parts import registry
from ...tensors import Shape
from ..draw import Draw
from ..posteriors import Posterior
from ..priors import Prior
from ..space import Space
from ..trace import Layer


@dataclass(frozen=True)
class Observed:
    """What a model knows of a batch of images when it infers their latents."""

    h: Tensor
    """The encoder's features, (B, *features)."""
    log_px: Callable[[Tensor], Tensor]
    """log p(x | z), (K, B), nats per example, of what the decoder reads, (K, B, *f); for a posterior that asks."""


class Latents(nn.Module, ABC):
    """All stochastic layers of a model."""

    space: Space
    """Of the topmost layer, which the recipe's posterior and prior make."""
    shape: Shape
    """Of one code."""
    decoder_input: Shape
    """Of what the decoder reads for one code."""
    classes: int = 0
    """Number of classes; 0 for a latent without labels."""

    @abstractmethod
    def infer(self, seen: Observed, samples: int, y: Int[Tensor, "b"] | None = None
              ) -> tuple[Float[Tensor, "k b *f"], tuple[Layer, ...]]:
        """Draws `samples` latents for each image; returns what the decoder reads, and the layers.

        `y` are class labels, −1 where there is none; latents without classes ignore them.
        """

    @abstractmethod
    def code(self, seen: Observed, *, sample: bool = False) -> Float[Tensor, "b *d"]:
        """One code for each image: the posterior's mean, or a draw from it."""

    @abstractmethod
    def read(self, code: Float[Tensor, "k b *d"]) -> Float[Tensor, "k b *f"]:
        """What the decoder reads of a code."""

    @property
    @abstractmethod
    def top_prior(self) -> Prior:
        """The model's own prior of the topmost layer's draws."""

    @abstractmethod
    def noise(self, n: int, prior: Prior | None = None) -> Float[Tensor, "n m"]:
        """Standard normal numbers of n codes; of its topmost layer for `prior`, where one is given in place of its own."""

    @abstractmethod
    def from_noise(self, u: Float[Tensor, "n m"], options: Draw = Draw(), prior: Prior | None = None
                   ) -> Float[Tensor, "n *d"]:
        """The codes that noise becomes: of the same numbers always the same ones."""

    def generate(self, n: int, options: Draw = Draw(), prior: Prior | None = None) -> Float[Tensor, "k n *d"]:
        """Draws n codes, with a leading axis of one sample; of its topmost layer from `prior`, where one is given in place
        of its own."""
        return self.from_noise(self.noise(n, prior), options, prior)[None]

    def log_density(self, code: Float[Tensor, "n *d"], prior: Prior | None = None) -> Float[Tensor, "n"]:
        """log p of each code, nats; of its topmost layer under `prior`, where one is given in place of its own. Up to a
        constant, where the prior has no more.

        Raises:
            UsageError: these codes have no density within reach.
        """
        raise UsageError("codes that are not plain real numbers (of a codebook, relaxed bits, a sphere) have no density "
                         "within reach that would tell likely ones: leave that out")

    @property
    def fit_space(self) -> Space | None:
        """Where the draws live that a prior can be fitted to after training; None where there are none."""
        return None

    def to_fit(self, seen: Observed, draws: int) -> Float[Tensor, "k b *d"]:
        """`draws` samples of the posterior in `fit_space` for each image."""
        raise UsageError("nothing can be fitted to the codes of this latent: choose a learned --prior")

    @property
    def in_pairs(self) -> bool:
        """Whether it learns from batches of pairs, rows 2i and 2i + 1."""
        return any(q.in_pairs for q in self.modules() if isinstance(q, Posterior))

    @property
    def prior_is_learned(self) -> bool:
        """Whether the model's own prior follows the codes already."""
        return True


Q = TypeVar("Q", bound=Reparameterized)


def unfolded(q: Q, batch: tuple[int, int]) -> Q:
    """A posterior of K·B examples as one with batch shape (K, B), for what was inferred sample by sample.

    Raises:
        UsageError: it is not made of tensors alone.
    """
    values = {f.name: getattr(q, f.name) for f in fields(q)} if is_dataclass(q) else {"": q}
    for value in values.values():
        if not isinstance(value, Tensor | int | float):
            raise UsageError(f"a {type(q).__name__} cannot depend on another latent; a gaussian posterior can")
    return replace(q, **{k: v.unflatten(0, batch) for k, v in values.items() if isinstance(v, Tensor)})  # type: ignore


NO_ENCODER = ("a GAN has no encoder: it makes images of codes, and cannot find the code of an image. A hybrid has both: "
              "train one with --preset vae_gan")

MakePosterior = Callable[[Shape, Shape], Posterior]
"""From the shapes of features and latent to a posterior."""
MakePrior = Callable[[Posterior, bool], Prior]
"""From a posterior, and whether it reads the encoder's features as they are, to the prior over its space."""


@dataclass(frozen=True)
class LatentSpec(ABC):
    """Shapes of a latent before its parts are made: what a call such as `flat(64)` gives."""

    grid: tuple[int, int] | None
    """Where the encoder should end for it; None leaves that to the encoder."""

    @abstractmethod
    def build(self, features: Shape, posterior: MakePosterior, prior: MakePrior) -> Latents:
        """The latent for an encoder's features, with the posterior and prior of the recipe."""


LATENTS = registry.latent.of(LatentSpec)
