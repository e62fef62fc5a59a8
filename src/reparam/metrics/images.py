"""Images: how faithful reconstructions are, and how much fine detail images hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..data.stream import evenly
from ..registry import metric
from ..terms.similarity import ssim as similarity
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
        mean_figure("psnr of posterior means", psnr_of(x, of_means).cpu(), "dB", "the codes by which images are known")]
    scale = [mean_figure("psnr of the average image", psnr_of(x, average).cpu(), "dB")] if len(x) > 1 else []
    return [mean_figure("psnr", psnr_of(x, drawn).cpu(), "dB"), *known, *scale]


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
    from ..terms.perceptual import perceptual_distance

    network, rebuilt = evaluation.network, evaluation.reconstructions
    if not isinstance(network, Features):
        raise Unavailable(f"{network.name} gives one vector an image; a perceptual distance reads maps")
    rows = evenly(len(rebuilt), evaluation.n)
    with torch.inference_mode():
        values = torch.cat([perceptual_distance(network, x, y).cpu() for x, y in
                            zip(evaluation.x[rows].split(CHUNK), saved(rebuilt[rows]).split(CHUNK), strict=True)])
    figure = mean_figure("perceptual", values, "distance between feature maps, 0 is equal", better="lower")
    return [replace(figure, features=network.name, resize=network.resize)]


def high_frequencies(x: Tensor) -> Tensor:
    """Energy of each image (n, C, H, W) at spatial frequencies above half of Nyquist's, per pixel value, (n,).

    Σ |F(u, v)|² / (H W)² over √(u² + v²) > ¼ cycle a pixel, the mean over channels, with F the discrete Fourier transform:
    by Parseval's theorem the part of the mean square that these frequencies make up.
    """
    h, w = x.shape[-2:]
    u, v = (torch.fft.fftfreq(side, device=x.device) for side in (h, w))
    high = (u[:, None] ** 2 + v**2).sqrt() > 0.25
    power = torch.fft.fft2(x.double(), norm="forward").abs().square()
    return (power * high).sum((-2, -1)).mean(1)


def as_smooth_as(x: Tensor, samples: Tensor) -> Tensor:
    """Images x (n, C, H, W) with their detail taken down to that of samples (m, C, H, W), whose contents stay their own.

    In the discrete cosine transform, whose edges are mirrored and so have no jump, every spatial frequency is multiplied by
    the root of the ratio of the samples' mean power to the images', of frequencies of equal |f|; by 1 at most, and by no
    more than at a lower frequency, so that neither noise nor the corners of blocks count as detail. A blur is undone from
    neither: of blurred copies of the images it gives the blur.
    """
    from scipy.fft import dctn, idctn

    h, w = x.shape[-2:]
    band = np.rint(np.hypot(np.arange(h)[:, None] / h, np.arange(w) / w) * max(h, w)).astype(np.int64).ravel()

    def spectra(images: Tensor) -> npt.NDArray[np.float64]:
        return np.asarray(dctn(images.double().cpu().numpy(), axes=(2, 3), norm="ortho"), dtype=np.float64)

    def power(spectrum: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.bincount(band, np.square(spectrum).mean((0, 1)).ravel()) / np.maximum(np.bincount(band), 1)

    of_x = spectra(x)
    gain = np.sqrt(power(spectra(samples)) / np.maximum(power(of_x), 1e-12)).clip(max=1)
    gain[np.bincount(band) == 0] = gain[0] = 1.0  # the mean of an image is no detail
    filtered = idctn(of_x * np.minimum.accumulate(gain)[band].reshape(h, w), axes=(2, 3), norm="ortho")
    return torch.from_numpy(np.asarray(filtered)).to(x)
