"""A model as a few programs without randomness and without loops over time, which ONNX and web pages can run.

    encoder   images (n, C, H, W) in [0, 1]                 → codes, the posterior's mean
    decoder   codes                                         → images, the mean of p(x | z), about [0, 1]
    prior     noise (n, k), standard normal                 → codes
    velocity  a point of the prior's way, and its time (n,) → velocity there, where the prior is flow matching: its caller
              takes Heun's steps, as `whitening` and `steps` of the description say
    refiner   images, noise (n, C, H, W)                    → images with detail

Of the same numbers these give what `ImageModel` gives. Programs take any number of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..data.stream import EVALUATION_SEED
from ..distributions import Distribution
from ..errors import UsageError
from ..models.latents.base import Latents
from ..models.latents.flat import Drawn, OneLayer
from ..models.posteriors import Posterior
from ..models.priors import FlowMatching, Prior
from ..models.refiner import Refiner
from ..models.sampler import Sampler
from ..pretrained.image_model import ImageModel


@dataclass(frozen=True)
class Program:
    """A function of tensors as a module, with two rows of each input."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    output: str

    def exported(self) -> torch.export.ExportedProgram:
        """As torch.export has it, for any number of rows."""
        rows = torch.export.Dim("rows", min=1, max=65_536)
        with torch.no_grad():
            return torch.export.export(self.module, tuple(self.inputs.values()), strict=False,
                                       dynamic_shapes=tuple({0: rows} for _ in self.inputs))

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Tensor:
        return self.module(*inputs)


class Encode(nn.Module):
    """Black and white first, where the model was trained so: each pixel against a threshold of its own."""

    threshold: Tensor

    def __init__(self, model: ImageModel) -> None:
        super().__init__()
        self.vae, self.binarize = model.vae, model.config.recipe.binarize
        seeded = torch.Generator().manual_seed(EVALUATION_SEED)
        self.register_buffer("threshold", torch.rand(model.config.image_shape, generator=seeded))

    def forward(self, images: Tensor) -> Tensor:
        return self.vae.encode((self.threshold < images).float() if self.binarize else images)


class Decode(nn.Module):
    def __init__(self, sampler: Sampler) -> None:
        super().__init__()
        self.model = sampler.model

    def forward(self, codes: Tensor) -> Tensor:
        return self.model.decode(codes[None]).mean[0].float()


class Settled(Prior):
    """A prior whose distribution is made once, before a program is written, and not at every draw."""

    def __init__(self, prior: Prior) -> None:
        nn.Module.__init__(self)
        self.prior, self.shape, self.law = prior, prior.shape, prior()
        self.law.from_noise(self.law.noise(1))  # what it keeps for later draws is computed now

    def forward(self) -> Distribution:
        return self.law


class Generate(nn.Module):
    def __init__(self, latent: Latents, prior: Prior) -> None:
        super().__init__()
        self.latent, self.prior = latent, Settled(prior)

    def forward(self, noise: Tensor) -> Tensor:
        return self.latent.from_noise(noise, prior=self.prior)


class Move(nn.Module):
    """The velocity of standardised codes."""

    def __init__(self, prior: FlowMatching) -> None:
        super().__init__()
        self.velocity = prior.velocity

    def forward(self, point: Tensor, time: Tensor) -> Tensor:
        return self.velocity(point, time)


class Refine(nn.Module):
    def __init__(self, refiner: Refiner) -> None:
        super().__init__()
        self.refiner = refiner

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        return self.refiner(images, noise)


def programs(model: ImageModel) -> dict[str, Program]:
    """The programs of a model, by name; a GAN has no encoder, and few models have a refiner.

    Raises:
        UsageError: what infers or draws its codes cannot be written as such a program.
    """
    if any(q.asks for q in model.network.modules() if isinstance(q, Posterior)):
        raise UsageError(f"codes of the posterior {model.config.recipe.posterior!r} are found by gradients of the decoder, "
                         "which these programs cannot take: train a model with another one, such as --posterior gaussian")
    sampler, image = model.sampler, torch.rand(2, *model.config.image_shape)
    codes = torch.zeros(2, *model.latent_shape)
    found = {"decoder": Program(Decode(sampler), {"codes": codes}, "images")}
    if model.network.has_encoder:
        found = {"encoder": Program(Encode(model), {"images": image}, "codes"), **found}
    drawn_by = top_prior(sampler)
    if isinstance(drawn_by, FlowMatching):
        if not isinstance(model.network.latent, OneLayer | Drawn):
            raise UsageError("this model draws its topmost layer by flow matching and the others below it, which needs two "
                             "programs in turn: fit another prior first, such as reparam fit-prior RUN --prior mixture")
        point = torch.zeros(2, *drawn_by.shape)
        found["velocity"] = Program(Move(drawn_by), {"point": point, "time": torch.zeros(2)}, "velocity")
    else:
        noise = model.network.latent.noise(2, sampler.fitted_prior)
        with torch.no_grad():
            found["prior"] = Program(Generate(model.network.latent, drawn_by), {"noise": noise}, "codes")
    if sampler.refiner is not None:
        found["refiner"] = Program(Refine(sampler.refiner), {"images": image, "noise": torch.randn_like(image)}, "images")
    return {name: Program(program.module.eval(), program.inputs, program.output) for name, program in found.items()}


def top_prior(sampler: Sampler) -> Prior:
    """What draws the codes of the topmost layer: the fitted prior, or the model's own."""
    return sampler.fitted_prior if sampler.fitted_prior is not None else sampler.model.latent.top_prior


def description(model: ImageModel) -> dict[str, Any]:
    """What a program that runs these needs to know besides, as JSON takes it: shapes, latents and how to draw."""
    prior, config = top_prior(model.sampler), model.config
    found: dict[str, Any] = {
        "image": list(config.image_shape), "latent": list(model.latent_shape), "classes": list(config.classes),
        "axes": [{"index": a.index, "nats": a.nats, "mean": a.mean, "std": a.std} for a in config.axes],
        "resampled": model.sampler.resampler is not None}
    if isinstance(prior, FlowMatching):
        found["whitening"] = {name: getattr(prior.whitening, name).flatten().tolist() for name in ("loc", "scale")}
        found["steps"] = prior.steps
    else:
        found["noise"] = model.network.latent.noise(1, model.sampler.fitted_prior).shape[1]
    return found
