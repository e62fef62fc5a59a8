"""A trained model with what was trained after it: prior → resampler → decoder → refiner.

    z ~ p(z), chosen by the resampler,    x̂ = E p(x | z),    x ~ p(x | x̂) by the refiner

Prior, resampler and refiner are stages: modules that learned from the finished model and leave it as it is. Of those that a
model lacks, the prior is the model's own, and the others do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import UsageError
from ..parts.recipe import Recipe
from ..tensors import Shape
from .build import build_model, build_prior
from .draw import Draw
from .priors import Prior
from .refiner import Refiner, build_refiner
from .resampler import Resampler
from .space import Space
from .vae import Model

FITTED_PRIOR, RESAMPLER, REFINER = "fitted_prior", "resampler", "refiner"
"""Names of the stages, by which recipe, config and files of weights know them."""


class Sampler(nn.Module):
    """Draws new images from a model and the stages that were trained after it."""

    def __init__(self, model: Model, stages: Mapping[str, nn.Module] | None = None) -> None:
        super().__init__()
        self.model, self.stages = model, nn.ModuleDict(dict(stages or {}))

    @property
    def fitted_prior(self) -> Prior | None:
        """The prior that was fitted to the codes; of a model with several layers, to those of the topmost."""
        return cast("Prior | None", dict(self.stages.items()).get(FITTED_PRIOR))

    @property
    def resampler(self) -> Resampler | None:
        return cast("Resampler | None", dict(self.stages.items()).get(RESAMPLER))

    @property
    def refiner(self) -> Refiner | None:
        return cast("Refiner | None", dict(self.stages.items()).get(REFINER))

    def codes(self, n: int, options: Draw = Draw()) -> Float[Tensor, "n *d"]:
        """Codes of n new images. A resampler judges the draws that it has learned to judge: plain ones, of the prior that
        is used by default."""
        prior = self.fitted_prior if options.fitted else None

        def draw(count: int) -> Tensor:
            return self.model.latent.generate(count, options, prior)[0]

        by_default = options.is_plain and prior is self.fitted_prior
        if self.resampler is None or not options.resample or not by_default:
            return draw(n)
        return self.resampler.chosen(n, draw, self.means)

    def means(self, codes: Float[Tensor, "n *d"]) -> Float[Tensor, "n c h w"]:
        """The mean of p(x | z) for each code: its image without a refiner's detail."""
        return self.model.decode(codes[None]).mean[0]

    def images(self, codes: Float[Tensor, "n *d"], options: Draw = Draw(), noise: Float[Tensor, "m c h w"] | None = None
               ) -> Float[Tensor, "n c h w"]:
        """The image of each code, with detail where there is a refiner. `noise` seeds the refiner. One noise image for all
        codes keeps the added detail fixed, so images differ only as their codes do.

        Raises:
            UsageError: a temperature for a refiner that the model does not have.
        """
        if options.refine_temperature is not None and self.refiner is None:
            raise UsageError("this model has no refiner, whose temperature could be set")
        means = self.means(codes)
        if self.refiner is None or not options.refine:
            return means
        shape = means.shape  # not randn_like, whose order is that of the memory and changes with it
        noise = torch.randn(shape, device=means.device) if noise is None else noise.expand(shape)
        return self.refiner(means, noise, options.refine_temperature)

    def tensors(self) -> dict[str, Tensor]:
        """All that a file of weights holds: the model's tensors, and those of each stage under its name."""
        return {**self.model.state_dict(), **self.stages.state_dict()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what `tensors` gave, without a copy."""
        of_stages = {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] in self.stages}
        self.stages.load_state_dict(of_stages, assign=True)
        self.model.load_state_dict({k: v for k, v in tensors.items() if k not in of_stages}, assign=True)


def _build_fitted_prior(call: str, model: Model, image_shape: Shape) -> Prior:
    return build_prior(call, model.latent.fit_space or Space(model.latent.shape), of="codes")


STAGES: dict[str, Callable[[str, Model, Shape], nn.Module]] = {
    FITTED_PRIOR: _build_fitted_prior,
    RESAMPLER: lambda call, model, image_shape: Resampler(call, image_shape),
    REFINER: lambda call, model, image_shape: build_refiner(call, image_shape)}
"""How the module of each stage is built, untrained: from its part call, the model that it follows, and (C, H, W)."""


def build_stage(name: str, call: str, model: Model, image_shape: Shape) -> nn.Module:
    """The module of a stage, freshly initialised.

    Raises:
        UsageError: a stage or a part that does not exist, or does not fit the model.
    """
    if name not in STAGES:
        raise UsageError(f"there is no stage {name!r}; stages are {', '.join(STAGES)}")
    return STAGES[name](call, model, image_shape)


def build_sampler(recipe: Recipe, image_shape: Shape, stages: Mapping[str, str]) -> Sampler:
    """The model of a recipe and its stages by name and part call, for weights to be loaded into.

    Raises:
        UsageError: parts that do not exist or do not fit together.
    """
    model = build_model(recipe, image_shape)
    return Sampler(model, {name: build_stage(name, call, model, image_shape) for name, call in stages.items()})
