"""What a model says of single images: rate, distortion, residuals, and how simple they are.

Every number depends on its image alone, not on those beside it: all images share one draw of noise.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..data.stream import binarized
from ..errors import FEATURES
from ..models.draw import Draw
from ..models.trace import Trace, rate
from ..pretrained.image_model import ImageModel
from ..tensors import at_once, forked_rng

Array = npt.NDArray[Any]


def per_image(model: ImageModel, x: Float[Tensor, "n c h w"], measure: Callable[[Trace], Tensor], *, samples: int = 8,
              seed: int = 0) -> Float[Tensor, "n k"]:
    """`measure` of a trace of each image by itself, with `samples` draws of its posterior; it returns (k,)."""
    vae = model.vae
    x = binarized(x, shared=True) if model.config.recipe.binarize else x
    each = torch.vmap(lambda image: measure(vae(image[None], samples=samples)), randomness="same")
    rows: list[Tensor] = []
    with torch.inference_mode(), forked_rng(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")  # attention is looped over images
        for chunk in x.split(model.at_once):
            torch.manual_seed(seed)
            rows.append(each(chunk.to(model.device)).float().cpu())
    return torch.cat(rows)


def rate_and_distortion(model: ImageModel, x: Float[Tensor, "n c h w"], *, samples: int = 8, seed: int = 0) -> Array:
    """KL(q(z | x) ‖ p(z)) and −E_q log p(x | z) of each image, nats, (n, 2); their sum is −ELBO."""
    def measure(trace: Trace) -> Tensor:
        return torch.stack([rate(trace).mean(), -trace.log_px.mean()])

    return per_image(model, x, measure, samples=samples, seed=seed).double().numpy()


def code_length(images: npt.NDArray[np.uint8]) -> Array:
    """How long each image (n, H, W, C), uint8, is as a file, nats, (n,): the shorter one of PNG and lossless WebP.

    An upper bound of its complexity, up to a constant. Bands beyond the third are coded one by one.
    """
    return np.array([8 * math.log(2) * _bytes(image) for image in images])


def _bytes(image: npt.NDArray[np.uint8]) -> int:
    c = image.shape[2]
    pages = [image] if c == 3 else [image[..., i] for i in range(c)]
    return sum(min(_size(page, "PNG", optimize=True), _size(page, "WEBP", lossless=True, quality=100)) for page in pages)


def _size(page: npt.NDArray[np.uint8], form: str, **options: bool | int) -> int:
    written = io.BytesIO()
    Image.fromarray(page).save(written, form, **options)
    return written.tell()


def residuals(model: ImageModel, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
    """Squared difference of each image and its reconstruction from the posterior's mean, averaged over channels."""
    rebuilt = model.decode_pixels(model.encode_pixels(x), Draw(refine=False)).clamp(0, 1)
    return (x - rebuilt).square().mean(1)


WINDOW = 5
"""Pixels along the side of the window that residuals are averaged over."""


@dataclass(frozen=True)
class Surprise:
    """Where an image differs from its reconstruction more than images usually do there."""

    usual: Float[Tensor, "h w"]
    """Mean squared residual of held-out images in a window around each pixel."""

    @staticmethod
    def fit(of_held_out: Float[Tensor, "n h w"]) -> Surprise:
        usual = _averaged(of_held_out).mean(0)
        return Surprise(usual + 0.1 * usual.mean())  # a pixel that hardly ever changes is no excuse

    def map(self, of_images: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
        """Residual in units of the usual one; 1 is usual."""
        return _averaged(of_images) / self.usual


def _averaged(x: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    side = min(WINDOW, *(s - (s + 1) % 2 for s in x.shape[1:]))
    return F.avg_pool2d(x[:, None], side, 1, side // 2, count_include_pad=False)[:, 0]


def code_scale(model: ImageModel) -> tuple[Array, Array]:
    """(rows, scale): the informative latent dimensions, and what to multiply each with before distances are taken.

    1 / std of the codes, times the square root of 1 − e^{−2I}, the share of a code's variance that comes from the image when
    it carries I nats through a Gaussian channel: dimensions that are mostly noise hardly count.
    """
    axes = [axis for axis in model.config.axes if axis.nats > 0 and axis.std > 0]
    rows = np.array([axis.index for axis in axes], dtype=np.int64)
    return rows, np.array([math.sqrt(-math.expm1(-2 * axis.nats)) / axis.std for axis in axes])


def scaled_codes(model: ImageModel, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
    """Posterior means in the units of `code_scale`."""
    rows, scale = code_scale(model)
    return model.encode_pixels(x).flatten(1)[:, torch.from_numpy(rows)] * torch.from_numpy(scale).float()


FEATURE_NETWORK = "efficientnet"
"""By which images are compared where its package is installed."""


def has_features() -> bool:
    """Whether the packages of the feature network are installed."""
    return all(find_spec(name.replace("-", "_")) is not None for name in FEATURES)


def image_features(x: Float[Tensor, "n c h w"], device: torch.device | str = "cpu") -> Float[Tensor, "n d"]:
    """Vectors of the feature network, whatever the model.

    Raises:
        UsageError: its packages are missing.
    """
    from ..features import get_features

    network = get_features(FEATURE_NETWORK)
    with torch.inference_mode():
        return torch.cat([network.embed(chunk.to(device)).cpu() for chunk in x.split(at_once(x.shape))])
