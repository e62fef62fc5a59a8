"""A resampler trained on decoded draws of the prior."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from ...chunks import from_first
from ...models.draw import Draw
from ...models.resampler import Resampler
from ...models.sampler import FITTED_PRIOR, RESAMPLER, Sampler, build_stage
from ...models.vae import VAE
from ...parts.recipe import Recipe
from .base import Data, Fitted, Stage, StageBudget, batches_of, train_part

SETTLED_ON = 2000
"""Draws that set the acceptance threshold."""


class ResamplerStage(Stage):
    """Trains the recipe's resampler to tell codes of images, or of a GAN images, from draws of the prior that sampling
    uses."""

    name, share_field, doing, depends_on = RESAMPLER, "resampler_share", "training the resampler", (FITTED_PRIOR,)
    needs_codes = False

    def fit(self, call: str, sampler: Sampler, recipe: Recipe, data: Data, budget: StageBudget) -> Fitted:
        x = data.x
        resampler = cast(Resampler, build_stage(self.name, call, sampler.model, tuple(x.shape[1:]))).to(x.device)
        batches = batches_of(x, None, recipe.batch_size, budget.processes)
        trained = train_part(resampler, lambda x, _: _decoded(sampler, x), batches, budget, x.device).eval()

        def odds() -> Tensor:
            sizes = (min(resampler.at_once, SETTLED_ON - begin) for begin in range(0, SETTLED_ON, resampler.at_once))
            return torch.cat([trained(_drawn_images(sampler, n)) for n in sizes]).cpu()

        with torch.no_grad():
            trained.settle(from_first(odds))
        return Fitted(call, trained)


@torch.no_grad()
def _decoded(sampler: Sampler, x: Tensor) -> tuple[Tensor, Tensor]:
    """The decoder's images of the codes of images, of a GAN these images, and as many draws of the prior."""
    model = sampler.model
    return sampler.means(model.encode(x, sample=True)) if isinstance(model, VAE) else x, _drawn_images(sampler, len(x))


def _drawn_images(sampler: Sampler, n: int) -> Tensor:
    return sampler.means(sampler.codes(n, Draw(resample=False)))
