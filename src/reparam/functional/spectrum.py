"""Fine detail of images, by their spatial frequencies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_CHUNK = 250
"""Images that are transformed at a time: it takes eight times their memory."""


def high_frequencies(x: Tensor) -> Tensor:
    """Energy of each image (n, C, H, W) at spatial frequencies above half of Nyquist's, per pixel value, (n,).

    Σ |F(u, v)|² / (H W)² over √(u² + v²) > ¼ cycle a pixel, the mean over channels, with F the discrete Fourier transform:
    by Parseval's theorem the part of the mean square that these frequencies make up.
    """
    h, w = x.shape[-2:]
    u, v = (torch.fft.fftfreq(side, device=x.device) for side in (h, w))
    high = (u[:, None] ** 2 + v**2).sqrt() > 0.25
    powers = (torch.fft.fft2(chunk.double(), norm="forward").abs().square() for chunk in x.split(_CHUNK))
    return torch.cat([(power * high).sum((-2, -1)).mean(1) for power in powers])


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
