"""What the latents of some images are: means, draws, and the information in each dimension."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..chunks import columns_in_chunks
from ..distributions.base import Distribution
from ..distributions.gaussian import Gaussian, gaussian_kl
from ..distributions.multivariate import FullGaussian
from ..errors import UsageError
from ..files.untrusted import Count
from ..tensors import at_once, forked_rng
from .build import MOST_DIMS
from .vae import VAE, Model


@dataclass(frozen=True)
class Axis:
    """One latent dimension, as the training images use it."""

    index: Count
    """Position in the flattened latent."""
    nats: float
    """Information that it carries about an image on average; 0 where nothing tells, as in a GAN."""
    mean: float
    std: float
    """Of the aggregate posterior."""


@dataclass(frozen=True)
class Codes:
    """Posteriors of the evaluated images, flattened over the latent's shape."""

    mean: Tensor  # (n, D)
    draw: Tensor  # (n, D), one sample of each posterior
    information: Tensor  # (D,), mean KL of each dimension's posterior, nats


def codes_of(model: VAE, x: Tensor) -> Codes:
    """Means, draws and information per dimension of the codes of images x (n, C, H, W).

    Information is the mean KL of a dimension's posterior to its prior where both are Gaussian. Where only the posterior
    is (under a flow, a mixture), it is the KL to a Gaussian with the mean and variance of all the codes; of codes that
    are no Gaussian's, it is what a Gaussian channel with the noise of their draws would carry, ½ log(1 + signal / noise).
    """
    mean, draw, loc, log_var = columns_in_chunks(lambda chunk: _seen(model, chunk), x, size=at_once(x.shape))
    if loc.shape[1]:
        _, layers = model.latent.infer(model.observe(x[:1]), 1)
        information = _gaussian_information(torch.stack([loc, log_var]), tuple(layer.p for layer in layers))
    else:
        signal, noise = mean.var(0, correction=0), (draw - mean).square().mean(0)
        information = 0.5 * torch.log1p(signal / noise.clamp(min=1e-6))
    return Codes(mean.cpu(), draw.cpu(), information.cpu())


def _seen(model: VAE, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means and draws of the codes of images, each (n, D), and where all is Gaussian, loc and log_var of the posteriors,
    else (n, 0)."""
    seen = model.observe(x)
    _, layers = model.latent.infer(seen, 1)
    mean, gaussian = model.latent.code(seen).flatten(1), [layer.q for layer in layers if isinstance(layer.q, Gaussian)]
    if len(gaussian) < len(layers) or sum(layer.z[0, 0].numel() for layer in layers) != mean.shape[1]:
        return mean, model.latent.code(seen, sample=True).flatten(1), mean[:, :0], mean[:, :0]
    loc, log_var = (torch.cat([t.reshape(len(x), -1) for t in each], 1)
                    for each in ([q.loc for q in gaussian], [q.log_var for q in gaussian]))
    return mean, torch.cat([layer.z[0].flatten(1) for layer in layers], 1), loc, log_var


def posterior_moments(model: VAE, x: Tensor) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Mean and variance of the posterior of each image (n, C, H, W), of a flat code.

    Raises:
        UsageError: the posterior is not one Gaussian.
    """
    _, layers = model.latent.infer(model.observe(x), 1)
    q = layers[0].q
    if len(layers) > 1 or not isinstance(q, Gaussian | FullGaussian):
        raise UsageError("the posterior of this model is not one Gaussian for each image, whose variance would say how far "
                         "codes reach")
    return q.loc.flatten(1), q.log_var.exp().flatten(1)


def _gaussian_information(posteriors: Tensor, priors: tuple[Distribution, ...]) -> Tensor:
    """Mean KL of each dimension, (D,), of Gaussians with (loc, log_var) (2, n, D) to each layer's prior."""
    each: list[Tensor] = []
    begin = 0
    for p in priors:
        loc, log_var = posteriors[:, :, begin : begin + p.mean.numel()]
        q = Gaussian(loc, log_var)
        begin += p.mean.numel()
        if isinstance(p, Gaussian):
            p = Gaussian(p.loc.flatten(), p.log_var.flatten())
        else:
            p = Gaussian(q.loc.mean(0), (q.loc.var(0) + q.log_var.exp().mean(0)).log())
        each.append(gaussian_kl(q, p).mean(0))
    return torch.cat(each)


def axes_of(codes: Codes, most: int = 256) -> tuple[Axis, ...]:
    """Latent dimensions by information, most first."""
    mean, std = codes.draw.mean(0), codes.draw.std(0)
    order = codes.information.argsort(descending=True)[:most]
    return tuple(Axis(int(i), round(float(codes.information[i]), 5), float(mean[i]), float(std[i])) for i in order)


@torch.no_grad()
def latent_axes(model: Model, x: Tensor, seed: int = 0) -> tuple[Axis, ...]:
    """The latent dimensions by the information that they carry about images x; without an encoder, by how much they change
    an image."""
    with forked_rng():
        torch.manual_seed(seed)
        return axes_of(codes_of(model, x)) if isinstance(model, VAE) else _drawn_axes(model)


DRAWN_AXES = 16
"""Dimensions of a GAN's latent that are kept for traversals."""


def _drawn_axes(model: Model) -> tuple[Axis, ...]:
    """By the mean square change of 16 images when a number of their codes moves by two standard deviations."""
    z = model.latent.generate(512).flatten(2)
    mean, std, few = z.mean((0, 1)), z.std((0, 1)), z[:, :16]
    changes = torch.zeros(z.shape[-1])
    for i in range(min(z.shape[-1], MOST_DIMS)):
        step = torch.zeros_like(mean)
        step[i] = std[i]
        low, high = (model.decode((few + way * step).unflatten(2, model.latent.shape)).mean for way in (-1, 1))
        changes[i] = (high - low).square().mean().cpu()
    order = changes.argsort(descending=True)[:DRAWN_AXES]
    return tuple(Axis(int(i), 0.0, round(float(mean[i]), 5), round(float(std[i]), 5)) for i in order)
