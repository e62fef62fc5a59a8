"""A refiner trained on reconstructions."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ...errors import UsageError
from ...models.refiner import Refiner
from ...models.sampler import REFINER, Sampler, build_stage
from ...models.vae import Model
from ...parts.recipe import Recipe
from ...tensors import Shape, evenly
from .base import Data, Fitted, Stage, StageBudget, batches_of, train_part


class RefinerStage(Stage):
    """Trains the recipe's refiner on images and what the decoder makes of draws of their codes."""

    name, share_field, doing = REFINER, "refiner_share", "training the refiner"

    def check(self, recipe: Recipe, model: Model, image_shape: Shape) -> nn.Module | None:
        refiner = super().check(recipe, model, image_shape)
        if refiner is not None and recipe.binarize:
            raise UsageError(f"refiner={recipe.refiner!r} draws shades of grey, and binarize=True leaves black and white: "
                             "choose one of them")
        return refiner

    def fit(self, call: str, sampler: Sampler, recipe: Recipe, data: Data, budget: StageBudget) -> Fitted:
        (x, y), model = data, sampler.model
        refiner = cast(Refiner, build_stage(self.name, call, model, tuple(x.shape[1:]))).to(x.device)
        subset = evenly(len(x), 1000)
        refiner.prepare(*_pairs(model, x[subset], None if y is None else y[subset]))
        batches = batches_of(x, y, recipe.batch_size, budget.processes)
        return Fitted(call, train_part(refiner, lambda x, y: _pairs(model, x, y), batches, budget, x.device))


@torch.no_grad()
def _pairs(model: Model, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Images, and the decoder's means for a draw of their codes."""
    return x, model(x, y=y).px.mean[0]
