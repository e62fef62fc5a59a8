"""A resampler trained on decoded draws of the prior."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.resampler import MOST, build_resampler
from ...models.vae import VAE, Model
from ...parts.recipe import Recipe
from .base import Effort, batches_of, train_part

SETTLED_ON = 8
"""Batches of draws that a resampler's level is set by."""


def fit_resampler(model: Model, recipe: Recipe, x: Tensor, seed: int = 0, *, effort: Effort = Effort(steps=2000)
                  ) -> str | None:
    """Trains the recipe's resampler to tell codes of images x from draws of the prior that `sample` uses, and puts it into
    the model; returns its network as a part call."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        resampler = build_resampler(recipe.resampler, tuple(x.shape[1:]))
        if resampler is None or not isinstance(model, VAE):
            return None
        model.resampler = None  # draws are to be the prior's own
        resampler = train_part(resampler.to(x.device), lambda x, _: _alike(model, x), batches_of(x, None, recipe.batch_size),
                             effort, x.device).eval()
        with torch.no_grad():
            resampler.settle(torch.cat([resampler(_drawn_images(model, MOST)) for _ in range(SETTLED_ON)]))
        model.resampler = resampler.requires_grad_(False)
        return recipe.resampler


@torch.no_grad()
def _alike(model: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    """The decoder's images of the codes of images, and of as many draws of the prior."""
    return model.decode(model.encode(x, sample=True)[None]).mean[0], _drawn_images(model, len(x))


def _drawn_images(model: VAE, n: int) -> Tensor:
    return model.decode(model.generate(n)[None]).mean[0]
