"""How easy the latents are to model by a prior that is fitted to them: their noise, correlation, shape and symmetry."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..chunks import columns_in_chunks, in_chunks
from ..distributions.quantized import Quantized
from ..functional.intervals import decibels, of_square
from ..models.latents.labelled import ClassPosterior
from ..models.priors import Standardize
from ..models.trace import Layer
from ..models.vae import VAE
from ..parts.registry import metric
from ..tensors import at_once, evenly
from ..text import counted
from .catalogue import FigureType, measures
from .evaluation import FEWEST, Evaluation, Unavailable
from .figures import Figure

ODD = 36 / (8 * 3**0.5 - 9)
EVEN = 24 / (16 * 3**0.5 - 27)
"""Weights of the squared means of u exp(−u²/2) and exp(−u²/2) in a negentropy, with which each is ½χ²₁/n for a Gaussian."""


LEAST_CODES = 100
"""Codes without which effective dimensions have no interval: their bias is as large as their spread, and not as c / n."""


class Spectrum(NamedTuple):
    """How many dimensions codes vary in."""

    effective: float
    """Participation ratio, corrected for the number of codes."""
    error: float
    """Its standard error."""
    values: Tensor
    """Eigenvalues of the covariance, largest first, not corrected; those that are 0 for want of codes are left out."""


def participation(codes: Tensor) -> Spectrum:
    """(Σ λ)² / Σ λ², λ the eigenvalues of the covariance of codes (n, *d), standardised as for a fitted prior: the number of
    dimensions that would spread as much if all were alike and uncorrelated. (Gao et al., 2017, doi:10.1101/214262)

    Of vectors each number is standardised, so that Σ λ = d; of maps each channel over all places. With ν = n − 1 the sum of
    squares of a sample's eigenvalues is too large by about (Σ λ)² / ν, and is replaced by its estimate without bias under
    normality, ν² / ((ν − 1)(ν + 2)) (Σ λ² − (Σ λ)² / ν) (Srivastava, 2005, doi:10.14490/jjss.35.251). Standard errors by
    the infinitesimal jackknife, the standardisation's share in them.
    """
    white = Standardize(tuple(codes.shape[1:]))
    white.fit(codes.float().cpu())
    u = white(codes.float().cpu())
    per_channel = math.prod(codes.shape[2:])
    u = (u - u.mean(0)).flatten(1).double()
    (n, d), freedom = u.shape, len(u) - 1
    small = u @ u.T if n < d else u.T @ u
    values = torch.linalg.eigvalsh(small / freedom).flip(0).clamp(min=0)
    products = u * ((small @ u if n < d else u @ small) / freedom)  # rows sum to uᵀSu, columns to freedom (S²)_ii
    total, squares = float(values.sum()), float(products.sum()) / freedom
    if total <= 0:
        return Spectrum(0.0, 0.0, values)
    excess = u.square().unflatten(1, (-1, per_channel)).mean(2) - 1  # (n, channels), of each code's variance
    shares = products.sum(0).view(-1, per_channel).sum(1) / freedom
    influence = 2 * (products.sum(1) - squares - excess @ shares)
    scale = freedom**2 / ((freedom - 1) * (freedom + 2))
    unbiased = max(scale * (squares - total**2 / freedom), total**2 / d)
    effective = total**2 / unbiased
    error = effective / unbiased * scale * float(influence.square().mean()) ** 0.5 / n**0.5
    return Spectrum(effective, error, values)


def noise_shares(first: Tensor, second: Tensor) -> Tensor:
    """For two draws (n, *d) of each image's posterior, n numbers with the mean E_d[E_x Var(z_d | x) / Var(z_d)].

    Half the squared distance of two draws is the posterior's variance without bias, whatever its kind. Each number is the
    mean plus what its image adds to the estimate, so that their spread gives the interval. Dimensions that never vary
    count 0.
    """
    a, b = first.flatten(1).float(), second.flatten(1).float()
    mean = (a.mean(0) + b.mean(0)) / 2
    within, spread = (a - b).square() / 2, ((a - mean).square() + (b - mean).square()) / 2
    total = spread.mean(0).clamp(min=1e-12)
    share = within.mean(0) / total
    return (within / total - share * (spread / total - 1)).mean(1)


def negentropies(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Of codes (n, *d), by about how many nats a Gaussian misses each dimension's own distribution, (D,), and n numbers with
    the mean of these, whose spread gives the interval.

    J ≈ k₁ E[u exp(−u²/2)]² + k₂ (E[exp(−u²/2)] − √½)² for u standardised, k₁ = 36 / (8√3 − 9), k₂ = 24 / (16√3 − 27):
    to first order, the KL to the Gaussian of the density with most entropy that has these two means (Hyvärinen, 1998, "New
    approximations of differential entropy for independent component analysis and projection pursuit"). It is near for heavy
    tails (Laplace 0.086 for 0.072) and short for sharp edges (uniform 0.065 for 0.176). Less 1/n, what draws of a Gaussian
    come to, so that they are 0 on average. Both functions are bounded: unlike a kurtosis, no outlier makes the figure.
    """
    u = codes.flatten(1).float()
    spread = u.std(0, correction=0)
    u = (u - u.mean(0)) / spread.clamp(min=1e-6)
    bell = (-u.square() / 2).exp()
    odd, even = (u * bell).mean(0), bell.mean(0) - 0.5**0.5
    values = torch.where(spread > 1e-6, ODD * odd.square() + EVEN * even.square() - 1 / len(u), 0)
    # the derivatives of both means as one code gets more weight, its share in the mean and scale of all with it
    tilt, drift = u, (u.square() - 1) / 2
    of_odd = u * bell - odd - tilt * ((1 - u.square()) * bell).mean(0) - drift * (u * (1 - u.square()) * bell).mean(0)
    of_even = bell - bell.mean(0) + tilt * (u * bell).mean(0) + drift * (u.square() * bell).mean(0)
    each = torch.where(spread > 1e-6, 2 * (ODD * odd * of_odd + EVEN * even * of_even), 0)
    return values, values.mean() + each.mean(1)


def turning_errors(model: VAE, code: Tensor) -> tuple[Tensor, Tensor]:
    """For codes (n, c, s, s), squared errors per pixel value (n,) of decoding them turned, the mean of the three turns; and
    the variances (n,) of the decoded pictures over their eight flips and turns."""
    picture = model.decode(code[None]).mean[0]
    error = sum((_pixels(model.decode(code.rot90(i, (-2, -1))[None]).mean[0] - picture.rot90(i, (-2, -1)))
                 for i in (1, 2, 3)), torch.zeros(len(code), device=code.device)) / 3
    both = picture + picture.flip(-1)
    average = (both + both.rot90(1, (-2, -1)) + both.rot90(2, (-2, -1)) + both.rot90(3, (-2, -1))) / 8
    return error, _pixels(picture - average)  # the average is its own flips and turns, so one way stands for all eight


def _pixels(t: Tensor) -> Tensor:
    """Mean square of each picture, (n,)."""
    return t.square().flatten(1).mean(1)


DIMENSIONS = FigureType("effective dimensions", "Latent space", "of {total} latents",
                        "dimensions in which the codes vary independently",
                        why_neither="more hold more of an image, and fewer are easier for a prior", least=0.0)
NOISE = FigureType("noise share", "Latent space", "of the variance of the codes", "noise in the codes",
                   why_neither="1 is collapsed, and 0 a latent without noise", least=0.0, most=1.0)
NON_GAUSSIANITY = FigureType("non-Gaussianity", "Latent space", "nats a latent",
                             "how far the distribution of each latent is from a Gaussian", "lower", null=0.0)
EQUIVARIANCE = FigureType("equivariance error", "Latent space", "dB",
                          "how far decoding turned codes is from turning the pictures", "lower",
                          absent="its latents are no square maps")


@metric("modellable")
@measures(DIMENSIONS, NOISE, NON_GAUSSIANITY, EQUIVARIANCE)
def modellable(evaluation: Evaluation, most: int = 2000) -> list[Figure]:
    """How easy the latents are to model by a prior fitted to them, such as a mixture, a flow or flow matching.

    'effective dimensions' of the codes, those of no use to the decoder included; 'noise share', the posterior's variance
    over that of all codes, 1 where a dimension has collapsed and 0 without noise; 'non-Gaussianity', what a Gaussian misses
    of each dimension by itself; and of square maps the 'equivariance error', how far decoding turned codes is from turning
    the decoded pictures (after Kouzelis et al., 2025, arXiv:2502.09509). Of draws from each image's posterior, in the top
    layer of several, on `most` evenly spaced images. How far codes lie from the prior that there is, `prior_auc` tells.
    """
    model = evaluation.vae
    n = min(most, len(evaluation.x))
    if n < FEWEST:
        raise Unavailable(counted(n, "image is", "images are") + f" too few to say how their codes vary; {FEWEST} at least")
    x = evaluation.x[evenly(len(evaluation.x), n)]
    with evaluation.drawing():
        draws = in_chunks(lambda chunk: _top(model, chunk).z[:2].cpu().transpose(0, 1), x, size=evaluation.at_once)
        draws = draws.transpose(0, 1)
        figures = [_dimensions(draws[0]), _noise(draws), _shape(draws[0])]
        return [*figures, *_equivariance(model, x)]


def _top(model: VAE, x: Tensor) -> Layer:
    """The topmost layer of numbers, two draws for each image."""
    _, layers = model.latent.infer(model.observe(x), 2)
    top = next(layer for layer in layers if not isinstance(layer.q, ClassPosterior))
    if isinstance(top.q, Quantized):
        raise Unavailable("this asks how real numbers vary, and this model's codes are integers: codebook_usage tells how "
                          "these are used")
    return top


def _dimensions(codes: Tensor) -> Figure:
    found, d = participation(codes), codes[0].numel()
    half, middle = 1.96 * found.error, found.effective - _excess(codes, found.effective)
    low, high = min(middle - half, found.effective), max(middle + half, found.effective)
    few = len(codes) < LEAST_CODES
    return DIMENSIONS.of(found.effective, len(codes), None if few else (max(low, 0.0), min(high, float(d))),
                         "participation ratio of the standardised codes' covariance; noise counts as codes do"
                         + (f"; no interval of fewer than {LEAST_CODES} codes, whose bias is no smaller" if few else ""),
                         total=d, detail=tuple(round(float(v), 4) for v in found.values[:1024]))


def _excess(codes: Tensor, whole: float) -> float:
    """What few codes add to their effective dimensions, about c / n: as much as these are more of halves of the codes.

    (Quenouille, 1956, doi:10.1093/biomet/43.3-4.353)
    """
    return sum(participation(codes[i::2]).effective for i in (0, 1)) / 2 - whole


def _noise(draws: Tensor) -> Figure:
    figure = NOISE.mean(noise_shares(*draws), "mean over latents; 1 collapsed, 0 without noise", share=False)
    low, high = figure.interval or (figure.value, figure.value)
    return replace(figure, interval=(max(low, 0.0), min(high, max(figure.value, 1.0))))


def _shape(codes: Tensor) -> Figure:
    values, each = negentropies(codes)
    value, error = float(each.double().mean()), float(each.std()) / len(each) ** 0.5
    return NON_GAUSSIANITY.of(value, len(each), of_square(value, error, 1 / len(each)),
                              "negentropy, mean over latents; 0 is Gaussian",
                              detail=tuple(round(float(v), 4) for v in values[:1024]))


def _equivariance(model: VAE, x: Tensor) -> list[Figure]:
    """Nothing of codes without a square grid that divides a square image."""
    shape, size = model.latent.shape, x.shape[2:]
    if len(shape) != 3 or shape[1] != shape[2] or size[0] != size[1] or size[0] % shape[1]:
        return []
    pairs = columns_in_chunks(lambda chunk: turning_errors(model, model.encode(chunk)), x, size=at_once(x.shape))
    error, spread = (each.cpu().double() for each in pairs)
    means = error.mean().clamp(min=1e-12), spread.mean().clamp(min=1e-12)
    value = 10 * float((means[0] / means[1]).log10())
    return [EQUIVARIANCE.of(value, len(x), decibels(error.numpy(), spread.numpy()),
                            "squared error of decoding turned codes, against the variance of decoded pictures over flips "
                            "and turns")]
