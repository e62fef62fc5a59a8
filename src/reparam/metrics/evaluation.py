"""What a metric is given: a model, and the images that it is measured on."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..vae import VAE


@dataclass(frozen=True)
class Codes:
    """Posteriors of the evaluated images, flattened over the latent's shape."""

    mean: Tensor  # (n, D)
    draw: Tensor  # (n, D), one sample of each posterior
    information: Tensor  # (D,), mean KL of each dimension's posterior, nats


@dataclass(frozen=True)
class Evaluation:
    """A model and the images that it is measured on. Every metric draws from the same fixed seed."""

    model: VAE
    x: Tensor
    """(n, C, H, W) in [0, 1], on the model's device; binarised once when the recipe says so."""
    y: Tensor | None = None
    """(n,) class labels, −1 where there is none."""
    seed: int = 1234

    @contextlib.contextmanager
    def drawing(self) -> Generator[None]:
        """A region without gradients whose random numbers start from the evaluation's seed."""
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(self.seed)
            yield

    @cached_property
    def codes(self) -> Codes:
        from .latents import codes_of

        with self.drawing():
            return codes_of(self.model, self.x)
