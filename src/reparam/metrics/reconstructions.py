"""Images: how faithful reconstructions are, and how much fine detail images hold."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..chunks import in_chunks
from ..functional.similarity import ssim as similarity
from ..parts.registry import metric
from ..tensors import evenly
from .catalogue import FigureType, measures
from .evaluation import Evaluation, Unavailable, saved
from .figures import Figure


def psnr_of(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image (n,), dB, for pixels in [0, 1]."""
    return -10 * ((x - y) ** 2).flatten(1).mean(1).clamp(min=1e-10).log10()


def psnr_of_average(x: Tensor) -> Tensor:
    """n numbers whose mean is the PSNR of images x (n, C, H, W) to their average, and whose spread gives its interval.

    Each is the PSNR of its image and what the image moves that of all by its part in the average μ:
    (x_i − μ)·mean_j ∂psnr_j/∂μ, with ∂psnr_j/∂μ = 20 / (ln 10 · P) (x_j − μ) / mse_j over P pixel values.
    """
    flat = x.flatten(1).double()
    away = flat - flat.mean(0)
    error = away.square().mean(1, keepdim=True).clamp(min=1e-10)
    slope = 20 / math.log(10) / flat.shape[1] * (away / error).mean(0)
    return psnr_of(x, x.mean(0, keepdim=True).expand_as(x)) + away @ slope


PSNR = FigureType("psnr", "Reconstructions", "dB", "faithfulness of reconstructions, pixel by pixel", "higher")
PSNR_OF_MEANS = FigureType("psnr of posterior means", "Reconstructions", "dB",
                           "faithfulness of what is decoded from the posterior's mean", "higher", headline=False,
                           absent="draws of its posterior are its mean")
PSNR_OF_AVERAGE = FigureType("psnr of the average image", "Reconstructions", "dB", "the average image in place of each",
                             why_neither="for scale")


@metric("psnr")
@measures(PSNR, PSNR_OF_MEANS, PSNR_OF_AVERAGE)
def psnr(evaluation: Evaluation) -> list[Figure]:
    """Reconstructions, each from a draw of the image's posterior, as in training, and from its mean; and, for scale, the
    average image in place of every reconstruction."""
    x, drawn, of_means = evaluation.x, evaluation.reconstructions, evaluation.reconstructions_of_means
    means = [] if torch.equal(drawn, of_means) else [PSNR_OF_MEANS.mean(psnr_of(x, of_means).cpu(),
                                                                        "what `encode` returns, decoded")]
    scale = [PSNR_OF_AVERAGE.mean(psnr_of_average(x).cpu())] if len(x) > 1 else []
    return [PSNR.mean(psnr_of(x, drawn).cpu()), *means, *scale]


SSIM = FigureType("ssim", "Reconstructions", "SSIM, 1 is equal", "structural similarity of reconstructions", "higher",
                  least=-1.0, most=1.0)


@metric("ssim")
@measures(SSIM)
def ssim(evaluation: Evaluation) -> list[Figure]:
    """Structural similarity of reconstructions from draws of the posterior, 1 for equal images. (Wang et al., 2004)"""
    with evaluation.drawing():
        values = in_chunks(similarity, evaluation.x, evaluation.reconstructions, size=evaluation.at_once).cpu()
    return [SSIM.mean(values)]


PERCEPTUAL = FigureType("perceptual", "Reconstructions", "distance between feature maps, 0 is equal",
                        "distance of reconstructions between feature maps", "lower", least=0.0)


@metric("perceptual")
@measures(PERCEPTUAL)
def perceptual(evaluation: Evaluation) -> list[Figure]:
    """Distance of reconstructions to their images between maps of the feature network, 0 for equal ones.

    On evenly spaced images, as many as samples are compared with. (Zhang et al., 2018, arXiv:1801.03924)
    """
    from ..features import Features
    from ..features.perceptual import perceptual_distance

    network, rebuilt = evaluation.network, evaluation.reconstructions
    if not isinstance(network, Features):
        raise Unavailable(f"{network.name} gives one vector an image; a perceptual distance reads maps")
    rows = evenly(len(rebuilt), evaluation.n)
    with evaluation.drawing():
        values = in_chunks(lambda x, y: perceptual_distance(network, x, y), evaluation.x[rows], saved(rebuilt[rows]),
                           size=evaluation.at_once).cpu()
    return [PERCEPTUAL.mean(values, features=network.name, resize=network.resize)]
