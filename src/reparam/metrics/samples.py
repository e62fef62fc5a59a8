"""How good samples are: by sets of feature vectors of them and of real images, and by their fine detail."""

from __future__ import annotations

import math
from dataclasses import replace

from ..functional.distance import Estimate, frechet_estimate, frechet_inf, kernel_distance
from ..functional.diversity import vendi as vendi_score
from ..functional.intervals import of_share, wilson
from ..functional.neighbours import K, authentic, copied, duplicated, nearer_to_training, prdc_of_halves, spread
from ..functional.neighbours import prdc as neighbourhoods
from ..functional.spectrum import high_frequencies
from ..models.vae import VAE
from ..parts.registry import metric
from ..tensors import evenly
from .evaluation import Evaluation, Kind, Unavailable
from .figures import Better, Figure, few, mean_figure

SQUARED = "squared distance of features"


@metric("fd")
def fd(evaluation: Evaluation) -> list[Figure]:
    """Fréchet distance of samples to real images; of a VAE beside that of reconstructions and of each prior's samples.

    Reconstructions far off tell of the decoder; near ones, and samples far off, of the prior. Called FID with the standard
    Inception weights only. (Heusel et al., 2017, arXiv:1706.08500)
    """
    name = _called(evaluation, "fd")
    of: dict[str, Kind] = {name: "samples"}
    if isinstance(evaluation.model, VAE):
        of |= {f"{name} of reconstructions": "reconstructions", f"{name} of prior samples": evaluation.drawn_from("prior")}
        if evaluation.model.latent.fitted is not None:
            of[f"{name} of fitted-prior samples"] = evaluation.drawn_from("fitted prior")
    found = {kind: _of_set(evaluation, name, frechet_estimate(evaluation.embedded("real"), evaluation.embedded(kind)),
                           SQUARED, least=0.0, better="lower") for kind in dict.fromkeys(of.values())}
    return [replace(found[kind], name=each) for each, kind in of.items()]


ROWS = 4
"""Images for each feature without which a line in 1/n takes too little of the bias off. Of two halves of the same images
(CIFAR-10, EfficientNet-Lite0), where it should be 0, `fd_inf` is 901, 453, 69 and 19 with 0.4, 0.8, 2 and 2.7 for each."""


@metric("fd_inf")
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
    return [replace(_of_set(evaluation, _called(evaluation, "fd_inf"), estimate, SQUARED, better="lower", null=0.0),
                    note="the intercept of a line in 1/n, the bias of few images taken off")]


@metric("kd")
def kd(evaluation: Evaluation) -> list[Figure]:
    """Kernel distance of samples to real images: squared MMD under a cubic kernel, not multiplied by 1000.

    Called KID with the standard Inception weights only. (Bińkowski et al., 2018, arXiv:1801.01401)
    """
    estimate = kernel_distance(evaluation.embedded("real"), evaluation.embedded("samples"), seed=evaluation.seed)
    return [_of_set(evaluation, _called(evaluation, "kd"), estimate, "squared MMD, cubic kernel", better="lower",
                    null=0.0)]


@metric("prdc")
def prdc(evaluation: Evaluation) -> list[Figure]:
    """Precision, recall, density and coverage of samples, k = 5.

    (Kynkäänniemi et al., 2019, arXiv:1904.06991; Naeem et al., 2020, arXiv:2002.09797)
    """
    real, samples = evaluation.embedded("real"), evaluation.embedded("samples")
    found = neighbourhoods(real, samples)
    spreads = spread(prdc_of_halves(real, samples))
    units = {"precision": "of the samples", "recall": "of the real images",
             "density": "real neighbourhoods a sample, over k", "coverage": "of the real images"}
    figures: list[Figure] = []
    for (name, values), half in zip(found._asdict().items(), spreads.tolist(), strict=True):
        mean, n = float(values.mean()), len(values)
        interval = (max(mean - half, 0.0), mean + half) if name == "density" else wilson(mean, n, half / 1.96)
        figures.append(_beside(evaluation, Figure(name, mean, units[name], n, interval, f"k = {K}", better=_BETTER[name],
                                                  null=_NULL.get(name))))
    return figures


_BETTER: dict[str, Better] = {"precision": "higher", "recall": "higher", "density": "", "coverage": "higher"}
_NULL = {"density": 1.0, "coverage": 1 - 2.0**-K}


@metric("vendi")
def vendi(evaluation: Evaluation) -> list[Figure]:
    """How many different images the samples amount to; and, for scale, as many real images.

    (Friedman & Dieng, 2023, arXiv:2210.02410)
    """
    real, samples = (vendi_score(evaluation.embedded(kind)) for kind in ("real", "samples"))
    unit = "effective number of images"
    return [_of_set(evaluation, "vendi", samples, unit, least=1.0, null=real.value),
            _of_set(evaluation, "vendi of real images", real, unit, least=1.0)]


@metric("memorisation")
def memorisation(evaluation: Evaluation) -> list[Figure]:
    """Whether samples lie nearer to training images than to held-out ones, and how many are copies.

    'authenticity' is the share of samples farther from their nearest training image than that is from its own nearest
    (Alaa et al., 2022, arXiv:2102.08921), beside that of real images; 'memorisation' the share nearer to a training image
    than to any of as many held-out ones; 'copying AUC' the chance that a sample lies nearer to the training images than a
    held-out image does (after Meehan et al., 2020, arXiv:2004.05675).
    """
    known, real, samples = (evaluation.embedded(kind) for kind in ("known", "real", "samples"))
    few_known = min(len(known), len(real))
    pairs = known[:few_known], real[evenly(len(real), few_known)]
    copies, nearer = copied(samples, *pairs), nearer_to_training(samples, *pairs)
    fresh = mean_figure("authenticity of real images", authentic(real, known).double(), "of the real images",
                        "what a model without copies reaches")
    share, n, half = float(nearer.each.mean()), len(samples), float(spread(nearer.of_halves))
    return [_beside(evaluation, figure) for figure in (
        mean_figure("authenticity", authentic(samples, known).double(), "of the samples",
                    f"the others lie nearer to a training image than it lies to its own nearest; of real images "
                    f"{fresh.value:.2f} do not", null=fresh.value),
        fresh,
        Figure("memorisation", share, "of the samples", n, wilson(share, n, half / 1.96),
               "nearer to a training image than to any held-out one; 0.5 is none", null=0.5),
        Figure("copying AUC", copies.value, "AUC, 0.5 is fair, 1 are copies", few_known, of_share(*copies),
               "chance that a sample lies nearer to the training images than a held-out image does", null=0.5))]


REPEATED = 0.2
"""Share of samples that repeat one another from which a model is called collapsed. Of varied images it is 0.01 on
average, whatever their blur; the most of twenty pairs of equal sets is 0.16 of 64 images and 0.04 of 500
(`benchmarks/referee.py`)."""


@metric("duplicates")
def duplicates(evaluation: Evaluation) -> list[Figure]:
    """Samples that nearly repeat one another: nearer to another than 99 % of equally smooth real images are to another.

    Blurred pictures of different things lie near one another too, so that the real images are given as little detail as
    the samples have first (`images.as_smooth_as`). `vendi of smoothed real images` is how many different images these amount
    to, for scale.
    """
    smoothed = evaluation.embedded("smoothed")
    found = duplicated(evaluation.embedded("samples"), smoothed)
    return [_beside(evaluation, mean_figure("duplicates", found.double(), "of the samples",
                                            "0.01 is as of real images with as little detail", better="lower", null=0.01)),
            _of_set(evaluation, "vendi of smoothed real images", vendi_score(smoothed), "effective number of images",
                    least=1.0)]


@metric("sharpness")
def sharpness(evaluation: Evaluation) -> list[Figure]:
    """Energy of samples at high spatial frequencies against real images', dB: below 0 too smooth, above 0 too rough."""
    samples, real = high_frequencies(evaluation.samples), high_frequencies(evaluation.real)
    floor = (1 / 255) ** 2 / 12  # of rounding to 256 levels: below it no picture has detail
    means = [each.mean().clamp(min=floor) for each in (samples, real)]
    parts = [each.var() / len(each) / mean**2 for each, mean in zip((samples, real), means, strict=True)]
    value = 10 * float((means[0] / means[1]).log10())
    half = 1.96 * 10 / math.log(10) * float(sum(parts)) ** 0.5
    n = len(samples)
    return [Figure("sharpness", value, "dB, high-frequency energy against real images", n, (value - half, value + half),
                   warning=few(n), null=0.0)]


def _called(evaluation: Evaluation, name: str) -> str:
    """fd and kd are FID and KID with the weights that these are defined by, and with no others."""
    return {"fd": "FID", "kd": "KID", "fd_inf": "FID_inf"}[name] if evaluation.network.standard else name


def _of_set(evaluation: Evaluation, name: str, estimate: Estimate, unit: str, least: float | None = None, *,
            better: Better = "", null: float | None = None) -> Figure:
    low, high = (estimate.value + sign * 1.96 * estimate.error for sign in (-1, 1))
    interval = (low if least is None else max(low, least), high)
    return _beside(evaluation, Figure(name, estimate.value, unit, len(evaluation.real), interval, better=better, null=null))


def _beside(evaluation: Evaluation, figure: Figure) -> Figure:
    """The figure with the network that it depends on, and a warning when there were few images."""
    network = evaluation.network
    return replace(figure, features=network.name, resize=network.resize, warning=few(figure.n))
