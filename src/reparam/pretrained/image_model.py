"""What a trained model is for: sample, encode, decode, reconstruct, interpolate, traverse. Arrays in, arrays out."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor

from ..data.pixels import as_array
from ..data.stream import binarized
from ..errors import DataError, UsageError, nearest
from ..models.codes import Axis
from ..models.draw import Draw
from ..models.latents import NO_ENCODER, SemiSupervised
from ..models.sampler import Sampler
from ..models.vae import VAE, Model
from ..parts.call import parse_call
from ..parts.ranges import (
    COLUMNS,
    DRAWS,
    IMAGES,
    PATH_STEPS,
    ROWS,
    SEED,
    WIDTH,
)
from ..tensors import at_once, forked_rng
from .config import Config
from .files import load_model
from .layout import Layout
from .pictures import grid

T = TypeVar("T")


class ImageModel:
    """A trained model. Images are (n, H, W), (n, H, W, C), (n, C, H, W) or (n, features), uint8 or floats in [0, 1];
    what comes back has the layout and type that came in. A single image works like a batch of one.

    Example:
        model = reparam.load("runs/digits")
        z = model.encode(images)                     # (n, *latent), the posterior's mean
        better = model.decode(z)
    """

    def __init__(self, sampler: Sampler, config: Config, device: torch.device | str = "cpu") -> None:
        self.sampler, self.config, self.device = sampler.to(device).eval(), config, torch.device(device)

    @property
    def network(self) -> Model:
        """The model without the stages that were trained after it."""
        return self.sampler.model

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return self.network.latent.shape

    @property
    def at_once(self) -> int:
        """Images that pass through the model at a time."""
        return at_once(self.config.image_shape)

    @property
    def vae(self) -> VAE:
        """The network, for what takes an encoder.

        Raises:
            UsageError: it is a GAN's generator.
        """
        if not isinstance(self.network, VAE):
            raise UsageError(NO_ENCODER)
        return self.network

    @property
    def prior_is_normal(self) -> bool:
        return parse_call(self.config.recipe.prior).name == "normal"

    def __repr__(self) -> str:
        r, c = self.config.recipe, self.config.image_shape
        parts = [r.encoder, r.latent, r.decoder] if self.network.has_encoder else [r.latent, r.decoder]
        count = sum(p.numel() for p in self.sampler.parameters())
        return (f"ImageModel({' → '.join(parts)}, images {c[1]}×{c[2]}×{c[0]}, latent "
                f"{'×'.join(map(str, self.latent_shape))}, {count:,} parameters, {self.device})")

    def _repr_png_(self) -> bytes:
        """Sixteen samples, which notebooks show for the model."""
        picture = io.BytesIO()
        grid(self.sample(16, seed=0)).save(picture, "PNG")
        return picture.getvalue()

    def sample(self, n: int = 16, *, seed: int | None = None, temperature: float | tuple[float, ...] | None = None,
               prior: str | None = None, label: int | str | None = None, steps: int | None = None,
               guidance: float = 1.0, resample: bool | None = None, refine: bool = True,
               refine_temperature: float | None = None) -> np.ndarray:
        """n new images, uint8 (n, H, W) or (n, H, W, C): the mean image of p(x | z) for z drawn from the prior.

        `prior` is the name of the model's own prior or of the one fitted to its codes; by default the fitted one. A lower
        `temperature` gives less varied images; a hierarchical model takes one for each layer, from the top down. What
        training chose for the default prior, `config.sampling`, is the default of `temperature`, `resample` and
        `refine_temperature`; else 1, a resampler where there is one, and the refiner's own. `label`
        is a class's name or number, for a model or prior that knows classes. `steps` and `guidance` are for a prior
        fitted by `flow_matching`: its steps of integration, and how far beyond what the label says to go. Without
        `resample` or `refine` a resampler or refiner is left out, if the model has one; `refine_temperature`, above 0 and up
        to 1, takes the place of the refiner's own.

        Raises:
            UsageError: a number out of its range, or what this model does not know.
        """
        options = self.options(temperature=temperature, prior=prior, label=label, steps=steps, guidance=guidance,
                               resample=resample, refine=refine, refine_temperature=refine_temperature)
        return self.images(n, options, seed=seed)

    def images(self, n: int, options: Draw = Draw(), *, seed: int | None = None) -> np.ndarray:
        """`sample` with its options as one value."""
        return self._new_layout().write(self.sample_pixels(n, options, seed=seed))

    def options(self, *, temperature: float | tuple[float, ...] | None = None, prior: str | None = None,
                label: int | str | None = None, steps: int | None = None, guidance: float = 1.0,
                resample: bool | None = None, refine: bool = True, refine_temperature: float | None = None) -> Draw:
        """What `sample` takes, with prior and label by name, as one value.

        Raises:
            UsageError: a number out of its range, or a name that this model does not know.
        """
        fitted = self._fitted(prior)
        sampling = self.config.sampling if fitted == self._fitted(None) else None
        chosen = Draw() if sampling is None else sampling.draw
        return Draw(chosen.temperature if temperature is None else temperature, fitted, self._class(label), steps, guidance,
                    chosen.resample if resample is None else resample, refine,
                    chosen.refine_temperature if refine_temperature is None and refine else refine_temperature)

    def encode(self, images: npt.ArrayLike, *, sample: bool = False, seed: int | None = None) -> np.ndarray:
        """Latents of images, float32 (n, *latent): the posterior's mean, or with `sample` one draw from it."""
        SEED.check("seed", seed)
        layout, x = self._read(images)
        z = self._seeded(seed, lambda: self.encode_pixels(x, sample=sample))
        return z[0].numpy() if layout.single else z.numpy()

    def decode(self, z: npt.ArrayLike, options: Draw = Draw(), *, own_noise: bool = False) -> np.ndarray:
        """Images of latents (n, *latent), uint8. `options` say how a refiner adds detail: from the same noise for all
        images, or, with `own_noise`, from one drawn for each, as of new images."""
        with np.errstate(over="ignore"):  # what float32 cannot hold is told below
            codes = torch.from_numpy(np.ascontiguousarray(as_array(z), dtype=np.float32))
        if codes.shape[1:] != self.latent_shape:
            raise DataError(f"latents of shape {tuple(codes.shape)} do not fit this model; it takes "
                            f"(n, {', '.join(map(str, self.latent_shape))})")
        if not torch.isfinite(codes).all():
            raise DataError("the latents contain NaN or infinity")
        return self._new_layout().write(self.decode_pixels(codes, options, own_noise=own_noise))

    def reconstruct(self, images: npt.ArrayLike, *, sample: bool = False, seed: int | None = 0,
                    refine: bool = True, refine_temperature: float | None = None) -> np.ndarray:
        """What remains of images after encoding and decoding, in their own layout; without `refine`, of the code alone.
        `refine` and `refine_temperature` are as in `sample`.

        By default the posterior's mean is decoded, as by `decode(encode(images))`: no chance is in it, and an image's
        reconstruction does not depend on those beside it. Training decodes draws of the posterior, whose mean need not be
        among what the decoder has learned to read, least of all early in training: `sample` decodes a draw.
        """
        layout, x = self._read(images)
        SEED.check("seed", seed)
        options = Draw(refine=refine, refine_temperature=refine_temperature)
        z = self._seeded(seed, lambda: self.encode_pixels(x, sample=sample))
        return layout.write(self.decode_pixels(z, options))

    def interpolate(self, a: npt.ArrayLike | None = None, b: npt.ArrayLike | None = None, steps: int = 8, *,
                    seed: int | None = None) -> np.ndarray:
        """`steps` images on the way from image `a` to image `b`, both ends included, uint8; without images, from one draw of
        the prior to another, which a GAN can do too.

        On a great circle where codes lie on a sphere, or the prior is N(0, I), whose mass is near one (White, 2016,
        arXiv:1609.04468), else on a straight line.
        """
        PATH_STEPS.check("steps", steps)
        ends = self.ends(a, b, seed=seed)
        z = torch.stack([self.between(ends, t) for t in torch.linspace(0, 1, steps).tolist()])
        return self._new_layout().write(self.decode_pixels(z))

    def ends(self, a: npt.ArrayLike | None = None, b: npt.ArrayLike | None = None, *, seed: int | None = None
             ) -> Float[Tensor, "2 *d"]:
        """The codes of two images, or without images two draws of the prior: what `interpolate` goes between."""
        SEED.check("seed", seed)
        if (a is None) != (b is None):
            raise UsageError("interpolate between two images, or without any between two draws of the prior")
        if a is None or b is None:
            return self._seeded(seed, lambda: self.sampler.codes(2)).cpu()
        codes = [self.encode_pixels(self._read(image)[1], sample=False) for image in (a, b)]
        if len(codes[0]) != 1 or len(codes[1]) != 1:
            raise DataError("interpolate between one image and one other")
        return torch.cat(codes)

    def between(self, ends: Float[Tensor, "2 *d"], t: float) -> Float[Tensor, "*d"]:
        """The code at the fraction t of the way of `interpolate`."""
        around = self.prior_is_normal or self.network.latent.space.kind == "sphere"
        return (slerp if around else torch.lerp)(ends[:1], ends[1:], t)[0]

    def along(self, codes: npt.ArrayLike, steps: int) -> np.ndarray:
        """`steps` codes on the way through several codes (k, *latent), float32: from each to the next as `interpolate` goes,
        all of these ways in equal times.

        Raises:
            UsageError: fewer than two codes.
        """
        PATH_STEPS.check("steps", steps)
        stops = torch.from_numpy(np.asarray(codes, np.float32)).reshape(-1, *self.latent_shape)
        if len(stops) < 2:
            raise UsageError("a way leads through two codes at least")
        times = [(t, min(int(t), len(stops) - 2)) for t in np.linspace(0, len(stops) - 1, steps).tolist()]
        return torch.stack([self.between(stops[i : i + 2], t - i) for t, i in times]).numpy()

    def traverse(self, image: npt.ArrayLike | None = None, *, dims: int = 8, steps: int = 9,
                 width: float = 2.5) -> np.ndarray:
        """Images (dims, steps, H, W[, C]), uint8, each row moving along one of the most informative latents.

        A row goes from `width` standard deviations of the codes below their mean to as many above it, while the others
        stay at the code of `image`, or at the codes' mean.
        """
        for name, value, within in (("dims", dims, ROWS), ("steps", steps, COLUMNS), ("width", width, WIDTH)):
            within.check(name, value)
        axes = self.config.axes[:dims]
        centre = torch.zeros(self.latent_shape).flatten()
        for axis in self.config.axes:
            centre[axis.index] = axis.mean
        if image is not None:
            centre = self.encode_pixels(self._read(image)[1], sample=False)[0].flatten()
        rows = [self._row(centre, axis, steps, width) for axis in axes]
        images = self._new_layout().write(self.decode_pixels(torch.cat(rows).unflatten(1, self.latent_shape)))
        return images.reshape(len(axes), steps, *images.shape[1:])

    def score(self, images: npt.ArrayLike, *, samples: int = 1, seed: int | None = 0) -> np.ndarray:
        """A lower bound of log p(x) of each image, nats, (n,): the ELBO, or IWAE's bound with more `samples`."""
        return self.score_pixels(self._read(images)[1], samples=samples, seed=seed).numpy()

    def sample_pixels(self, n: int, options: Draw = Draw(), *, seed: int | None = None) -> Tensor:
        """`sample` as (n, C, H, W), about [0, 1] and not clipped to it."""
        return self.drawn(n, options, seed=seed)[1]

    def drawn(self, n: int, options: Draw = Draw(), *, seed: int | None = None) -> tuple[Tensor, Tensor]:
        """The codes (n, *latent) of n new images, and the images as `sample_pixels` gives them."""
        IMAGES.check("n", n)
        SEED.check("seed", seed)
        codes, images = self._seeded(seed, lambda: self._drawn(n, options))
        return codes.float().cpu(), images.float().cpu()

    def _drawn(self, n: int, options: Draw) -> tuple[Tensor, Tensor]:
        size = self.at_once
        chunks = [min(size, n - begin) for begin in range(0, n, size)] or [1]
        codes = [self.sampler.codes(count, options) for count in chunks]
        images = [self.sampler.images(z, options) for z in codes]
        return torch.cat(codes)[:n], torch.cat(images)[:n]

    def encode_pixels(self, x: Tensor, *, sample: bool = False) -> Tensor:
        """`encode` of (n, C, H, W)."""
        vae = self.vae
        return self._chunked(lambda chunk: vae.encode(chunk, sample=sample), self._inked(x))

    def decode_pixels(self, z: Tensor, options: Draw = Draw(), *, own_noise: bool = False) -> Tensor:
        """`decode` to (n, C, H, W), about [0, 1] and not clipped to it. A refiner gets the same noise for all, so that
        images differ only as their codes do, or each its own."""
        noise = None if own_noise else self._seeded(0, lambda: torch.randn(1, *self.config.image_shape)).to(self.device)
        return self._chunked(lambda chunk: self.sampler.images(chunk, options, noise), z)

    @property
    def infers_classes(self) -> bool:
        """Whether it is semi-supervised: `class_probabilities` tells an image's class."""
        return isinstance(self.network.latent, SemiSupervised)

    def class_probabilities(self, images: npt.ArrayLike) -> np.ndarray:
        """q(y | x) of images, (n, classes): a column for each number that labels had in training.

        Raises:
            UsageError: a model that infers no classes.
        """
        vae, latent = self.vae, self.network.latent
        if not isinstance(latent, SemiSupervised):
            raise UsageError("this model infers no classes: train one with --preset m2, or learn a classifier of its codes "
                             "with reparam classify")
        _, x = self._read(images)
        return self._chunked(lambda chunk: latent.probabilities(vae.encoder(chunk)), self._inked(x)).double().numpy()

    def score_pixels(self, x: Tensor, *, samples: int = 1, seed: int | None = 0) -> Tensor:
        """`score` of (n, C, H, W). All images share one draw of noise, so that a score depends on its image alone."""
        from ..models.trace import log_weight

        DRAWS.check("samples", samples)
        SEED.check("seed", seed)
        vae = self.vae
        x = self._inked(x)

        def bound(image: Tensor) -> Tensor:
            log_w = log_weight(vae(image[None], samples=samples))[:, 0]
            return torch.logsumexp(log_w, 0) - math.log(samples)

        shared = torch.vmap(bound, randomness="same")

        def chunk_of(chunk: Tensor) -> Tensor:
            with forked_rng(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "There is a performance drop")  # attention is looped over images
                torch.manual_seed(noise)
                return shared(chunk)

        noise = int(torch.randint(2**31, ())) if seed is None else seed
        return self._chunked(chunk_of, x)

    def _row(self, centre: Tensor, axis: Axis, steps: int, width: float) -> Tensor:
        z = centre.repeat(steps, 1)
        z[:, axis.index] = axis.mean + axis.std * torch.linspace(-width, width, steps)
        return z

    def _fitted(self, prior: str | None) -> bool:
        """Whether `prior` names the fitted prior."""
        own = parse_call(self.config.recipe.prior).name
        fitted = parse_call(self.config.fitted_prior).name if self.config.fitted_prior else None
        name = parse_call(prior).name if prior is not None else fitted or own
        if name not in (own, fitted):
            both = f"{own!r} and {fitted!r}" if fitted else f"{own!r} only"
            raise UsageError(f"this model carries the prior {both}; got {prior!r}")
        return name == fitted

    def _class(self, label: int | str | None) -> int | None:
        """The number of a class given by name or number; classes named by numbers, such as 1 to 10, go by their names."""
        if label is None:
            return None
        if str(label) in self.config.classes:
            return self.config.classes.index(str(label))
        if isinstance(label, int) or label.isdecimal():
            return int(label)
        raise UsageError(f"unknown class {label!r}{nearest(label, self.config.classes)}. "
                         f"Classes: {', '.join(self.config.classes) or 'numbers from 0'}")

    def _new_layout(self) -> Layout:
        return Layout("grey" if self.config.image_shape[0] == 1 else "last", False, np.dtype(np.uint8), (0, 255))

    def _read(self, images: npt.ArrayLike) -> tuple[Layout, Tensor]:
        bounds = self.config.data.get("value_range")
        return Layout.read(images, self.config.image_shape, tuple(bounds) if bounds else None)

    def _inked(self, x: Tensor) -> Tensor:
        """Images as the model sees them: black and white where its recipe says so."""
        return binarized(x, shared=True) if self.config.recipe.binarize else x

    def _chunked(self, f: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
        with torch.inference_mode():
            if not len(t):  # the shape of an answer without rows
                return f(t.new_zeros(1, *t.shape[1:]).to(self.device)).float().cpu()[:0]
            return torch.cat([f(chunk.to(self.device)).float().cpu() for chunk in t.split(self.at_once)])

    def _seeded(self, seed: int | None, draw: Callable[[], T]) -> T:
        with forked_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            with torch.inference_mode():
                return draw()


def slerp(a: Tensor, b: Tensor, t: Tensor | float) -> Tensor:
    """Point at fraction t of the great circle from a to b, (n, *d); a straight line where the two are parallel.

    (Shoemake, 1985, doi:10.1145/325165.325242)
    """
    u, v = a.flatten(1), b.flatten(1)
    cosine = (u * v).sum(1, keepdim=True) / (u.norm(dim=1, keepdim=True) * v.norm(dim=1, keepdim=True)).clamp(min=1e-12)
    angle = cosine.clamp(-1, 1).acos()
    curved = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / angle.sin().clamp(min=1e-12)
    return torch.where(angle.sin() > 1e-4, curved, (1 - t) * u + t * v).view_as(a)


def load(folder: str | Path, *, device: str = "auto") -> ImageModel:
    """Loads a trained model from a run's folder; "auto" takes an accelerator when there is one.

    Raises:
        ModelFileError: no model there, or one that is truncated, of another version, or unlike its config.
    """
    where = Accelerator(cpu=device == "cpu").device if device in ("auto", "cpu") else torch.device(device)
    return ImageModel(*load_model(folder), device=where)
