"""Images: how faithful reconstructions are, and how much fine detail images hold."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..functional.similarity import ssim as similarity
from ..parts.registry import metric
from ..tensors import evenly
from .evaluation import CHUNK, Evaluation, Unavailable, saved
from .figures import Figure, mean_figure


def psnr_of(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image (n,), dB, for pixels in [0, 1]."""
    return -10 * ((x - y) ** 2).flatten(1).mean(1).clamp(min=1e-10).log10()


@metric("psnr")
def psnr(evaluation: Evaluation) -> list[Figure]:
    """Reconstructions, each from a draw of the image's posterior, as in training, and from its mean; and, for scale, the
    average image in place of every reconstruction."""
    x, drawn, of_means = evaluation.x, evaluation.reconstructions, evaluation.reconstructions_of_means
    average = x.mean(0, keepdim=True).expand_as(x)
    known = [] if torch.equal(drawn, of_means) else [
        mean_figure("psnr of posterior means", psnr_of(x, of_means).cpu(), "dB",
                    "the codes by which images are known", better="higher")]
    scale = [mean_figure("psnr of the average image", psnr_of(x, average).cpu(), "dB")] if len(x) > 1 else []
    return [mean_figure("psnr", psnr_of(x, drawn).cpu(), "dB", better="higher"), *known, *scale]


@metric("ssim")
def ssim(evaluation: Evaluation) -> list[Figure]:
    """Structural similarity of reconstructions from draws of the posterior, 1 for equal images. (Wang et al., 2004)"""
    pairs = zip(evaluation.x.split(CHUNK), evaluation.reconstructions.split(CHUNK), strict=True)
    with torch.inference_mode():
        values = torch.cat([similarity(x, y).cpu() for x, y in pairs])
    return [mean_figure("ssim", values, "SSIM, 1 is equal", better="higher")]


@metric("perceptual")
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
    with torch.inference_mode():
        values = torch.cat([perceptual_distance(network, x, y).cpu() for x, y in
                            zip(evaluation.x[rows].split(CHUNK), saved(rebuilt[rows]).split(CHUNK), strict=True)])
    figure = mean_figure("perceptual", values, "distance between feature maps, 0 is equal", better="lower")
    return [replace(figure, features=network.name, resize=network.resize)]
