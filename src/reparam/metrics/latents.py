"""The latent space: which dimensions carry information, and whether the codes lie where the prior puts them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..checkpoint import Axis
from ..classes import SemiSupervised
from ..data.stream import evenly
from ..distributions import Distribution, Gaussian, Quantized, gaussian_kl
from ..distributions.point import Point
from ..priors import Draw
from ..registry import metric
from ..vae import VAE
from .apart import DRAWS, IMAGES, LEAST, PRIOR, told_apart
from .evaluation import CHUNK, FEWEST, Codes, Evaluation, Unavailable
from .figures import Figure, mean_figure, of_share

ACTIVE = 0.01
"""A unit is active when more than this share of its variance comes from the image (Burda et al., 2016, section 2.3)."""


def codes_of(model: VAE, x: Tensor) -> Codes:
    """Means, draws and information per dimension of the codes of images x (n, C, H, W).

    Information is the mean KL of a dimension's posterior to its prior where both are Gaussian. Where only the posterior
    is (under a flow, a mixture), it is the KL to a Gaussian with the mean and variance of all the codes; of codes that
    are no Gaussian's, it is what a Gaussian channel with the noise of their draws would carry, ½ log(1 + signal / noise).
    """
    means: list[Tensor] = []
    draws: list[Tensor] = []
    posteriors: list[Tensor] = []
    priors: tuple[Distribution, ...] = ()
    for chunk in x.split(250):
        h = model.encoder(chunk)
        _, layers = model.latent.infer(h, 1)
        gaussian = [layer.q for layer in layers if isinstance(layer.q, Gaussian)]
        priors = tuple(layer.p for layer in layers)
        means.append(model.latent.code(h).flatten(1))
        if len(gaussian) == len(layers) and sum(layer.z[0, 0].numel() for layer in layers) == means[-1].shape[1]:
            posteriors.append(torch.cat([torch.stack([t.reshape(len(h), -1) for t in (q.loc, q.log_var)])
                                         for q in gaussian], 2))
            draws.append(torch.cat([layer.z[0].flatten(1) for layer in layers], 1))
        else:
            draws.append(model.latent.code(h, sample=True).flatten(1))
    mean, draw = torch.cat(means), torch.cat(draws)
    if posteriors:
        information = _gaussian_information(torch.cat(posteriors, 1), priors)
    else:
        signal, noise = mean.var(0, correction=0), (draw - mean).square().mean(0)
        information = 0.5 * torch.log1p(signal / noise.clamp(min=1e-6))
    return Codes(mean.cpu(), draw.cpu(), information.cpu())


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


def active_share(codes: Codes) -> Tensor:
    """The share of each dimension's variance (D,) that comes from the image, whatever the dimension is measured in."""
    return codes.mean.var(0, correction=0) / codes.draw.var(0, correction=0).clamp(min=1e-30)


@metric("active_units")
def active_units(evaluation: Evaluation) -> list[Figure]:
    """Latent dimensions whose mean moves with the image, and the information in each."""
    if len(evaluation.x) < FEWEST:
        raise Unavailable(f"{len(evaluation.x)} images are too few to say which latents move with them; {FEWEST} at least")
    codes = evaluation.codes
    share = active_share(codes)
    d, n = codes.mean.shape[1], len(codes.mean)
    active = Figure("active_units", float((share > ACTIVE).sum()), f"of {d} latents", n,
                    note=f"more than {ACTIVE:.0%} of the variance of the codes comes from the image")
    if torch.equal(codes.mean, codes.draw):  # points: information without noise has no bound
        return [active]
    return [active, Figure("information", float(codes.information.sum()), "nats, summed over latents", n,
                           detail=tuple(round(float(v), 4) for v in codes.information[:1024]))]


@metric("prior_auc")
def prior_auc(evaluation: Evaluation, most: int = 4000) -> list[Figure]:
    """How well a classifier tells codes of unseen images from draws of the prior: 0.5 not at all, 1 without fail.

    It learns from 48 images and 8 draws of each one's posterior, however many images there are, so that the figure of one
    model is the same of few images and of many (`apart.told_apart`). Of the 128 most informative latents.
    """
    latent, n = evaluation.vae.latent, len(evaluation.x)
    if n < LEAST:
        raise Unavailable(f"prior_auc needs {LEAST} images at least, 48 to teach a classifier and others to judge it by; "
                          f"got {n}")
    rows = evenly(n, min(n, most))
    kept = evaluation.codes.information.argsort(descending=True)[:128]
    with evaluation.drawing():
        chunks = evaluation.x[rows].split(CHUNK)
        codes = torch.cat([_draws(evaluation.vae, chunk).cpu()[..., kept] for chunk in chunks])
    figures = [_auc("prior_auc", evaluation, codes, kept, fitted=False)]
    if latent.fitted is not None:
        figures.append(_auc("fitted_prior_auc", evaluation, codes, kept, fitted=True))
    return figures


def _draws(model: VAE, x: Tensor) -> Tensor:
    """So many draws of each image's posterior as a classifier learns from, (n, DRAWS, D)."""
    h = model.encoder(x)
    return torch.stack([model.latent.code(h, sample=True).flatten(1) for _ in range(DRAWS)], 1)


def _auc(name: str, evaluation: Evaluation, codes: Tensor, kept: Tensor, *, fitted: bool) -> Figure:
    latent, how = evaluation.vae.latent, Draw(fitted=fitted)
    with evaluation.drawing():
        drawn = torch.cat([latent.generate(PRIOR // 8, how)[0].flatten(1).cpu()[:, kept] for _ in range(8)])
    found = told_apart(codes.numpy(), drawn.numpy(), seed=evaluation.seed)
    return Figure(name, found.value, "AUC, 0.5 is a perfect match", len(codes), of_share(found.value, found.error),
                  f"by classifiers that have seen {IMAGES} images, tested on others", better="lower", null=0.5)


@metric("accuracy")
def accuracy(evaluation: Evaluation) -> list[Figure]:
    """Share of images whose class a semi-supervised model infers rightly; nothing for other models, or without labels."""
    model, y = evaluation.vae, evaluation.y
    latent = model.latent
    if not isinstance(latent, SemiSupervised) or y is None or not (y >= 0).any():
        return []
    with evaluation.drawing():
        inferred = torch.cat([latent.classify(model.encoder(chunk)) for chunk in evaluation.x.split(250)])
    right = (inferred == y)[y >= 0].float().cpu()
    return [mean_figure("accuracy", right, "of the images", "class inferred from the image alone", better="higher")]


@metric("mutual_information")
def mutual_information(evaluation: Evaluation, most: int = 2000) -> list[Figure]:
    """Information of a code about which image it is of, and the distance of all codes together from the prior.

    I = E[log q(z | x) − log q(z)] and KL(q(z) ‖ p(z)) = KL(q(z | x) ‖ p(z)) − I with one draw of each image and
    q(z) = 1/n Σ_i q(z | x_i) over the images, so that I is at most log n: where it comes near that, the second figure is an
    upper bound only. On `most` evenly spaced images, of one layer with a density. (Hoffman & Johnson, 2016, "ELBO surgery")
    """
    model = evaluation.vae
    n = min(most, len(evaluation.x))
    if n < FEWEST:
        raise Unavailable(f"{n} images are too few for the information of codes; {FEWEST} at least")
    x = evaluation.x[evenly(len(evaluation.x), n)]
    with evaluation.drawing():
        _, layers = model.latent.infer(torch.cat([model.encoder(chunk) for chunk in x.split(CHUNK)]), 1)
        if len(layers) != 1 or isinstance(layers[0].q, Point | Quantized):
            raise Unavailable("the information of codes is measured of one layer of draws from densities; this model has "
                              + ("several layers" if len(layers) > 1 else "codes without noise"))
        z, q, p = layers[0]
        of_own = q.log_prob(z)[0]
        of_all = torch.cat([torch.logsumexp(q.log_prob(rows.unsqueeze(1).expand(-1, n, *z.shape[2:])), 1)
                            for rows in z[0].split(max(2**22 // (n * z[0, 0].numel()), 1))]) - math.log(n)
        prior = p.log_prob(z)[0]
    note = f"at most log n = {math.log(n):.2f} nats"
    return [mean_figure("mutual_information", (of_own - of_all).cpu(), "nats", note),
            mean_figure("kl of all codes together", (of_all - prior).cpu(), "nats", "0 where they follow the prior",
                        better="lower", null=0.0)]
