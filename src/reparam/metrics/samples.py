"""How good samples are: by sets of feature vectors of them and of real images, and by their fine detail."""

from __future__ import annotations

import math
from dataclasses import replace

from ..functional.distance import Estimate, frechet_estimate, frechet_inf, kernel_distance
from ..functional.diversity import vendi as vendi_score
from ..functional.intervals import of_share, wilson
from ..functional.neighbours import (
    K,
    authentic,
    copied,
    duplicated,
    duplicated_of_halves,
    nearer_to_training,
    prdc_of_halves,
    spread,
)
from ..functional.neighbours import prdc as neighbourhoods
from ..functional.spectrum import high_frequencies
from ..parts.registry import metric
from ..tensors import evenly
from .catalogue import FigureType, measures
from .evaluation import Embedded, Evaluation, Kind, Unavailable
from .figures import Figure, small_sample_warning

SQUARED = "squared distance of features"
FD = FigureType("fd", "Samples", SQUARED, "distance of samples to real images", "lower", least=0.0, also="FID")
FD_OF_RECONSTRUCTIONS = FigureType(
    "fd of reconstructions", "Reconstructions", SQUARED, "distance of reconstructions to real images", "lower", least=0.0,
    headline=False, also="FID of reconstructions", absent="a GAN has no encoder")
FD_OF_PRIOR = FigureType(
    "fd of prior samples", "Samples", SQUARED, "distance of samples from the model's own prior alone", "lower", least=0.0,
    headline=False, also="FID of prior samples", absent="a GAN has no other prior than its own")
FD_OF_FITTED_PRIOR = FigureType(
    "fd of fitted-prior samples", "Samples", SQUARED, "distance of samples from the fitted prior alone", "lower", least=0.0,
    headline=False, also="FID of fitted-prior samples", absent="no prior was fitted to its codes")


@metric("fd")
@measures(FD, FD_OF_RECONSTRUCTIONS, FD_OF_PRIOR, FD_OF_FITTED_PRIOR)
def fd(evaluation: Evaluation) -> list[Figure]:
    """Fréchet distance of samples to real images; of a VAE beside that of reconstructions and of each prior's samples.

    Reconstructions far off tell of the decoder; near ones, and samples far off, of the prior. Called FID with the standard
    Inception weights only. (Heusel et al., 2017, arXiv:1706.08500)
    """
    of: dict[FigureType, Kind] = {FD: "samples"}
    if evaluation.model.has_encoder:
        of |= {FD_OF_RECONSTRUCTIONS: "reconstructions", FD_OF_PRIOR: evaluation.drawn_from("prior")}
        if evaluation.sampler.fitted_prior is not None:
            of[FD_OF_FITTED_PRIOR] = evaluation.drawn_from("fitted prior")
    found = {kind: _distance(evaluation.features_of("real"), evaluation.features_of(kind))
             for kind in dict.fromkeys(of.values())}
    return [_of_set(evaluation, figure, found[kind], evaluation.count) for figure, kind in of.items()]


def _distance(real: Embedded, others: Embedded) -> Estimate:
    all_of = None if real.moments is None or others.moments is None else (real.moments, others.moments)
    return frechet_estimate(real.rows, others.rows, all_of)


ROWS = 4
"""Images for each feature without which a line in 1/n takes too little of the bias off. Of two halves of the same images
(CIFAR-10, EfficientNet-Lite0), where it should be 0, `fd_inf` is 901, 453, 69 and 19 with 0.4, 0.8, 2 and 2.7 for each."""


FD_INF = FigureType("fd_inf", "Samples", SQUARED, "the same distance, extrapolated to endlessly many images", "lower",
                    null=0.0, headline=False, also="FID_inf")


@metric("fd_inf")
@measures(FD_INF)
def fd_inf(evaluation: Evaluation) -> list[Figure]:
    """Fréchet distance of samples to real images, extrapolated to endlessly many of both.

    (Chong & Forsyth, 2020, arXiv:1911.07023)
    """
    real = evaluation.embedded("real")
    n, d = real.shape
    if n < ROWS * d:
        raise Unavailable(f"fd_inf of {d} features needs {ROWS * d:,} images, {ROWS} for each: of fewer, the bias "
                          f"does not go as 1/n and no line takes it off; got {n:,}. fd and kd are measured of fewer")
    estimate = frechet_inf(real, evaluation.embedded("samples"), seed=evaluation.seed)
    return [replace(_of_set(evaluation, FD_INF, estimate),
                    note="the intercept of a line in 1/n, the bias of few images taken off")]


KD = FigureType("kd", "Samples", "squared MMD, cubic kernel", "kernel distance of samples to real images", "lower", null=0.0,
                headline=False, also="KID")


@metric("kd")
@measures(KD)
def kd(evaluation: Evaluation) -> list[Figure]:
    """Kernel distance of samples to real images: squared MMD under a cubic kernel, not multiplied by 1000.

    Called KID with the standard Inception weights only. (Bińkowski et al., 2018, arXiv:1801.01401)
    """
    estimate = kernel_distance(evaluation.embedded("real"), evaluation.embedded("samples"), seed=evaluation.seed)
    return [_of_set(evaluation, KD, estimate)]


PRECISION = FigureType("precision", "Samples", "of the samples", "samples that lie among real images", "higher", least=0.0,
                       most=1.0)
RECALL = FigureType("recall", "Samples", "of the real images", "real images that samples reach", "higher", least=0.0,
                    most=1.0)
DENSITY = FigureType("density", "Samples", "real neighbourhoods a sample, over k",
                     "how closely samples lie among real images, 1 as these do themselves", target=1.0, least=0.0, null=1.0)
COVERAGE = FigureType("coverage", "Samples", "of the real images", "real images with a sample near by", "higher", least=0.0,
                      most=1.0, null=1 - 2.0**-K)


@metric("prdc")
@measures(PRECISION, RECALL, DENSITY, COVERAGE)
def prdc(evaluation: Evaluation) -> list[Figure]:
    """Precision, recall, density and coverage of samples, k = 5.

    (Kynkäänniemi et al., 2019, arXiv:1904.06991; Naeem et al., 2020, arXiv:2002.09797)
    """
    real, samples = evaluation.embedded("real"), evaluation.embedded("samples")
    found = neighbourhoods(real, samples)
    spreads = spread(prdc_of_halves(real, samples))
    figures: list[Figure] = []
    for kind, values, half in zip((PRECISION, RECALL, DENSITY, COVERAGE), found, spreads.tolist(), strict=True):
        mean, n = float(values.mean()), len(values)
        interval = (max(mean - half, 0.0), mean + half) if kind is DENSITY else wilson(mean, n, half / 1.96)
        figures.append(_beside(evaluation, kind.of(mean, n, interval, f"k = {K}")))
    return figures


DIFFERENT = "effective number of images"
VENDI = FigureType("vendi", "Samples", DIFFERENT, "variety of samples, beside that of real images",
                   target="vendi of real images", least=1.0)
VENDI_OF_REAL = FigureType("vendi of real images", "Samples", DIFFERENT, "variety of as many real images",
                           why_neither="for scale", least=1.0)
VENDI_OF_SMOOTHED = FigureType("vendi of smoothed real images", "Samples", DIFFERENT,
                               "variety of as many real images with as little detail", why_neither="for scale", least=1.0)


@metric("vendi")
@measures(VENDI, VENDI_OF_REAL)
def vendi(evaluation: Evaluation) -> list[Figure]:
    """How many different images the samples amount to; and, for scale, as many real images.

    (Friedman & Dieng, 2023, arXiv:2210.02410)
    """
    real, samples = (vendi_score(evaluation.embedded(kind)) for kind in ("real", "samples"))
    return [replace(_of_set(evaluation, VENDI, samples), null=real.value), _of_set(evaluation, VENDI_OF_REAL, real)]


AUTHENTICITY = FigureType("authenticity", "Samples", "of the samples", "samples that are no copies of training images",
                          target="authenticity of real images", least=0.0, most=1.0)
AUTHENTICITY_OF_REAL = FigureType("authenticity of real images", "Samples", "of the real images", "what fresh images reach",
                                  why_neither="for scale", least=0.0, most=1.0)
MEMORISATION = FigureType("memorisation", "Samples", "of the samples",
                          "samples nearer to training images than to held-out ones, 0.5 as fresh images", target=0.5,
                          least=0.0, most=1.0, null=0.5)
COPYING = FigureType("copying AUC", "Samples", "AUC, 0.5 is fair, 1 are copies",
                     "how much nearer samples lie to training images than held-out ones do, 0.5 is fair", target=0.5,
                     least=0.0, most=1.0, null=0.5)


@metric("memorisation")
@measures(AUTHENTICITY, AUTHENTICITY_OF_REAL, MEMORISATION, COPYING)
def memorisation(evaluation: Evaluation) -> list[Figure]:
    """Whether samples lie nearer to training images than to held-out ones, and how many are copies.

    'authenticity' is the share of samples farther from their nearest training image than that is from its own nearest
    (Alaa et al., 2022, arXiv:2102.08921), beside that of real images; 'memorisation' the share nearer to a training image
    than to any of as many held-out ones; 'copying AUC' the chance that a sample lies nearer to the training images than a
    held-out image does (after Meehan et al., 2020, arXiv:2004.05675).
    """
    training, real, samples = (evaluation.embedded(kind) for kind in ("training", "real", "samples"))
    compared = min(len(training), len(real))
    pairs = training[:compared], real[evenly(len(real), compared)]
    copies, nearer = copied(samples, *pairs), nearer_to_training(samples, *pairs)
    fresh = AUTHENTICITY_OF_REAL.mean(authentic(real, training).double(), "what a model without copies reaches")
    share, n = float(nearer.each.mean()), len(samples)
    return [_beside(evaluation, figure) for figure in (
        AUTHENTICITY.mean(authentic(samples, training).double(),
                          "the others lie nearer to a training image than it lies to its own nearest; of real images "
                          f"{fresh.value:.2f} do not", null=fresh.value),
        fresh,
        MEMORISATION.of(share, n, wilson(share, n, nearer.error),
                        "nearer to a training image than to any held-out one; 0.5 is none"),
        COPYING.of(copies.value, compared, of_share(*copies),
                   "chance that a sample lies nearer to the training images than a held-out image does"))]


REPEATED = 0.2
"""Share of samples that repeat one another from which a model is called collapsed. Of varied images it is 0.01 on
average, whatever their blur; the most of twenty pairs of equal sets is 0.16 of 64 images and 0.04 of 500
(`benchmarks/referee.py`)."""


DUPLICATES = FigureType("duplicates", "Samples", "of the samples", "samples that nearly repeat another one", "lower",
                        least=0.0, most=1.0, null=0.01)


@metric("duplicates")
@measures(DUPLICATES, VENDI_OF_SMOOTHED)
def duplicates(evaluation: Evaluation) -> list[Figure]:
    """Samples that nearly repeat one another: nearer to another than 99 % of equally smooth real images are to another.

    Blurred pictures of different things lie near one another too, so that the real images are given as little detail as
    the samples have first (`functional.spectrum.as_smooth_as`). `vendi of smoothed real images` is how many different
    images these amount to, for scale.
    """
    smoothed = evaluation.embedded("smoothed")
    samples = evaluation.embedded("samples")
    share, n = float(duplicated(samples, smoothed).double().mean()), len(samples)
    # near ones come in pairs, and the bound is of as few as the share: four times the variance of a share at least
    interval = wilson(share, n / 4, float(spread(duplicated_of_halves(samples, smoothed))) / 1.96)
    return [_beside(evaluation, DUPLICATES.of(share, n, interval, "0.01 is as of real images with as little detail")),
            _of_set(evaluation, VENDI_OF_SMOOTHED, vendi_score(smoothed))]


SHARPNESS = FigureType("sharpness", "Samples", "dB, high-frequency energy against real images",
                       "fine detail of samples against real images'", target=0.0, null=0.0)


@metric("sharpness")
@measures(SHARPNESS)
def sharpness(evaluation: Evaluation) -> list[Figure]:
    """Energy of samples at high spatial frequencies against real images', dB: below 0 too smooth, above 0 too rough."""
    samples, real = high_frequencies(evaluation.samples), high_frequencies(evaluation.real)
    floor = (1 / 255) ** 2 / 12  # of rounding to 256 levels: below it no picture has detail
    means = [each.mean().clamp(min=floor) for each in (samples, real)]
    parts = [each.var() / len(each) / mean**2 for each, mean in zip((samples, real), means, strict=True)]
    value = 10 * float((means[0] / means[1]).log10())
    half = 1.96 * 10 / math.log(10) * float(sum(parts)) ** 0.5
    n = len(samples)
    return [SHARPNESS.of(value, n, (value - half, value + half), warning=small_sample_warning(n))]


def _of_set(evaluation: Evaluation, kind: FigureType, estimate: Estimate, n: int | None = None) -> Figure:
    """FD and KD are called FID and KID with the network that these are defined by, and with no other."""
    low, high = (estimate.value + sign * 1.96 * estimate.error for sign in (-1, 1))
    name = kind.also if kind.also and evaluation.network.standard else kind.name
    return _beside(evaluation, kind.of(estimate.value, n or len(evaluation.real), (max(low, kind.least), high), name=name))


def _beside(evaluation: Evaluation, figure: Figure) -> Figure:
    """The figure with the network that it depends on, and a warning when there were few images."""
    network = evaluation.network
    return replace(figure, features=network.name, resize=network.resize, warning=small_sample_warning(figure.n))
