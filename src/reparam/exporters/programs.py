"""A model as a few programs without randomness, which ONNX and web pages can run.

    encoder    images (n, C, H, W) in [0, 1]    → codes, the posterior's mean
    decoder    codes                            → images, the mean of p(x | z), about [0, 1]
    prior      noise (n, k), standard normal    → codes
    resampler  images of such codes             → the probability (n,) that each is kept
    refiner    images, noise (n, C, H, W)       → images with detail

Where the prior is flow matching, its caller takes the steps, of which the description says how many, from the first
numbers of the noise to a point, by Heun's method, and two programs stand in place of `prior`:

    velocity   a point on the way, its time (n,), and where the prior knows classes a label (n,), −1 for none
                                                → velocity there
    codes      the point at the end, the noise  → codes

Of the same numbers these give what `ImageModel` gives. Programs take any number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..data.stream import EVALUATION_SEED
from ..distributions import Distribution
from ..errors import UsageError
from ..models.draw import Draw
from ..models.latents.base import Latents
from ..models.posteriors import Posterior
from ..models.priors import Autoregressive, FlowMatching, Prior
from ..models.refiner import Refiner
from ..models.resampler import KEPT, TRIES, Resampler
from ..models.sampler import Sampler
from ..nets.masked import baked
from ..pretrained.image_model import ImageModel
from ..tensors import forked_rng
from .loops import Looped

FARTHEST = 9.0
"""Beyond which no standard normal number lies."""
ROWS = 5
"""Rows of each input that a program is compared with PyTorch on; it is traced with two of them."""


@dataclass(frozen=True)
class Program:
    """A function of tensors as a module, with some rows of each input, such as it will be given."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    output: str

    def exported(self) -> torch.export.ExportedProgram:
        """As torch.export has it, for any number of rows."""
        rows = torch.export.Dim("rows", min=1, max=65_536)
        with torch.no_grad():
            return torch.export.export(self.module, tuple(x[:2] for x in self.inputs.values()), strict=False,
                                       dynamic_shapes=tuple({0: rows} for _ in self.inputs))

    @torch.inference_mode()
    def outputs(self) -> Tensor:
        """What PyTorch makes of the rows."""
        return self.module(*self.inputs.values())


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
    def __init__(self, latent: Latents, prior: Prior, options: Draw) -> None:
        super().__init__()
        self.latent, self.prior = latent, Looped(prior) if isinstance(prior, Autoregressive) else Settled(prior)
        self.options = options

    def forward(self, noise: Tensor) -> Tensor:
        return self.latent.from_noise(noise, self.options, self.prior)


class Move(nn.Module):
    """The velocity of standardised codes."""

    def __init__(self, prior: FlowMatching) -> None:
        super().__init__()
        self.velocity = prior.velocity

    def forward(self, point: Tensor, time: Tensor, label: Tensor | None = None) -> Tensor:
        return self.velocity(point, time, None if label is None else label.long())


class Given(Prior):
    """A prior whose draws are there already."""

    def __init__(self, prior: Prior, drawn: Tensor) -> None:
        nn.Module.__init__(self)
        self.prior, self.drawn = prior, drawn

    def forward(self) -> Distribution:
        return self.prior()

    def from_noise(self, u: Tensor, options: Draw = Draw()) -> Tensor:
        return self.drawn


class Arrive(nn.Module):
    """Codes of where flow matching has carried noise to, with what the latent makes of the noise besides."""

    def __init__(self, latent: Latents, prior: FlowMatching, options: Draw) -> None:
        super().__init__()
        self.latent, self.prior, self.options = latent, prior, options

    def forward(self, point: Tensor, noise: Tensor) -> Tensor:
        return self.latent.from_noise(noise, self.options, Given(self.prior, self.prior.whitening.inverse(point)))


class Judge(nn.Module):
    def __init__(self, resampler: Resampler) -> None:
        super().__init__()
        self.resampler = resampler

    def forward(self, images: Tensor) -> Tensor:
        return self.resampler.acceptance(images)


class Refine(nn.Module):
    def __init__(self, refiner: Refiner, temperature: float | None) -> None:
        super().__init__()
        self.refiner, self.temperature = refiner, temperature

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        return self.refiner(images, noise, self.temperature)


def programs(model: ImageModel) -> dict[str, Program]:
    """The programs of a model, by name; a GAN has no encoder, and few models have a refiner.

    Raises:
        UsageError: what infers its codes cannot be written as such a program.
    """
    if any(q.asks for q in model.network.modules() if isinstance(q, Posterior)):
        raise UsageError(f"codes of the posterior {model.config.recipe.posterior!r} are found by gradients of the decoder, "
                         "which these programs cannot take: train a model with another one, such as --posterior gaussian")
    with forked_rng(), torch.no_grad():
        torch.manual_seed(0)
        dense = ImageModel(baked(model.sampler), model.config)
        return {name: Program(module.eval(), inputs, output) for name, module, inputs, output in _parts(dense)}


def _parts(model: ImageModel) -> Iterator[tuple[str, nn.Module, dict[str, Tensor], str]]:
    """Name, module, inputs and output of each program. They draw as the model does where nothing else is asked for."""
    options = model.options()
    sampler, images = model.sampler, torch.rand(ROWS, *model.config.image_shape)
    if model.network.has_encoder:
        yield "encoder", Encode(model), {"images": images}, "codes"
    codes = sampler.codes(ROWS, Draw(resample=False))
    yield "decoder", Decode(sampler), {"codes": codes}, "images"
    yield from _drawing(model.network.latent, top_prior(sampler), model.network.latent.noise(ROWS, sampler.fitted_prior),
                        Draw(options.temperature))
    if sampler.resampler is not None and options.resample:
        yield "resampler", Judge(sampler.resampler), {"images": sampler.means(codes)}, "probability"
    if sampler.refiner is not None:
        refine = Refine(sampler.refiner, options.refine_temperature)
        yield "refiner", refine, {"images": images, "noise": torch.randn_like(images)}, "refined"


def _drawing(latent: Latents, prior: Prior, noise: Tensor, options: Draw
             ) -> Iterator[tuple[str, nn.Module, dict[str, Tensor], str]]:
    """What makes codes of noise."""
    if not isinstance(prior, FlowMatching):
        yield "prior", Generate(latent, prior, options), {"noise": noise}, "codes"
        return
    point, classes = torch.randn(ROWS, *prior.shape), prior.velocity.classes
    label = {"label": (torch.arange(ROWS) % (classes + 1) - 1).float()} if classes else {}
    yield "velocity", Move(prior), {"point": point, "time": torch.rand(ROWS), **label}, "velocity"
    yield "codes", Arrive(latent, prior, options), {"point": point, "noise": noise}, "codes"


def top_prior(sampler: Sampler) -> Prior:
    """What draws the codes of the topmost layer: the fitted prior, or the model's own."""
    return sampler.fitted_prior if sampler.fitted_prior is not None else sampler.model.latent.top_prior


def description(model: ImageModel) -> dict[str, Any]:
    """What a program that runs these needs to know besides, as JSON takes it: shapes, latents and how to draw."""
    prior, config, latent = top_prior(model.sampler), model.config, model.network.latent
    options = model.options()
    resampler = model.sampler.resampler if options.resample else None
    steered = prior.velocity.classes if isinstance(prior, FlowMatching) else 0
    return {
        "image": list(config.image_shape), "latent": list(model.latent_shape), "classes": list(config.classes),
        "axes": [{"index": a.index, "nats": a.nats, "mean": a.mean, "std": a.std} for a in config.axes],
        "noise": latent.noise(1, model.sampler.fitted_prior).shape[1], "one_hot": latent.classes,
        "labels": latent.classes or steered,
        **({"resampler": {"kept": KEPT, "most": resampler.at_once, "tries": TRIES}} if resampler is not None else {}),
        **(_of_steps(prior, options.temperature) if isinstance(prior, FlowMatching) else {})}


def _of_steps(prior: FlowMatching, temperature: float | tuple[float, ...]) -> dict[str, Any]:
    """How the steps of flow matching are taken: from the noise times the temperature. The number after the point's chooses a
    label: of so many bounds as it is not below, less one."""
    top = temperature[0] if isinstance(temperature, tuple) else temperature
    found: dict[str, Any] = {"steps": prior.steps, "point": list(prior.shape), "temperature": top}
    if prior.velocity.classes:
        shares = prior.frequencies.double() / prior.frequencies.sum()
        found["label_from"] = torch.special.ndtri(shares.cumsum(0)[:-1]).clamp(-FARTHEST, FARTHEST).tolist()
    return found
