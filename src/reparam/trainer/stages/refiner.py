"""A refiner trained on reconstructions."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.refiner import build_refiner
from ...models.vae import VAE, Model
from ...parts.recipe import Recipe
from ...tensors import evenly
from .base import Effort, batches_of, train_part


def fit_refiner(model: Model, recipe: Recipe, x: Tensor, seed: int = 0, *, y: Tensor | None = None,
                effort: Effort = Effort(steps=2000)) -> str | None:
    """Trains the recipe's refiner on images x, with their labels y (n,) where a decoder reads them, and puts it into the
    model; returns it as a part call.

    Raises:
        UsageError: a refiner that does not exist or fit.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        refiner = build_refiner(recipe.refiner, tuple(x.shape[1:]))
        if refiner is None or not isinstance(model, VAE):
            return None
        few = evenly(len(x), 1000)
        refiner.to(x.device).prepare(*_pairs(model, x[few], None if y is None else y[few]))
        batches = batches_of(x, y, recipe.batch_size)
        model.refiner = train_part(refiner, lambda x, y: _pairs(model, x, y), batches, effort, x.device)
    model.refiner.eval().requires_grad_(False)
    return recipe.refiner


@torch.no_grad()
def _pairs(model: VAE, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Images, and what the decoder makes of a draw of their codes."""
    return x, model(x, y=y).px.mean[0]
