"""Features of images, from a part call such as 'efficientnet(64)' or 'wavelets', or from a file of weights.

    get_features("wavelets").embed(x)               one vector an image, for distances between sets of images
    get_features("vgg16-397923af.pth").maps(x)      feature maps at several depths, for distances between two images
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import UsageError
from ..parts import registry
from ..tensors import no_autocast

Net = TypeVar("Net", bound=nn.Module)

ENDINGS = (".safetensors", ".pth", ".pt", ".tgz")
"""Of files of weights."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TINY = 1e-6
"""Least squared length that a feature vector is divided by, so that its direction has a gradient where it is 0."""


class Features(nn.Module, ABC):
    """Fixed functions of images in [0, 1]: never trained, and in evaluation mode whatever mode is asked for.

    Images (n, C, H, W) are floating point and have any number of channels: grey is repeated, an alpha channel (the last
    of 2 or 4) is laid on white, channels after the third of 5 and more are left out, and values are clamped to [0, 1].
    The parameters move to the device of the images by themselves, and arithmetic is in float32 also under autocast.
    """

    name: str
    """What the features are, 'efficientnet_lite0'."""
    resize: str
    """How an image is brought to the size that `embed` looks at, in words."""
    standard: bool
    """Whether these are the weights of the FID of the literature, by their hash; no other distance is called FID or KID."""
    sha256: str
    """Of the file of weights, in hex; '' without one."""

    def __init__(self, *, name: str, resize: str, sha256: str = "", standard: bool = False) -> None:
        super().__init__()
        self.name, self.resize, self.sha256, self.standard = name, resize, sha256, standard
        self.eval()

    @abstractmethod
    def _embed(self, x: Tensor) -> Tensor:
        """Vectors (n, D) of colour images (n, 3, H, W)."""

    @abstractmethod
    def _maps(self, x: Tensor) -> list[Tensor]:
        """Maps (n, c, h, w), from shallow to deep, of colour images (n, 3, H, W)."""

    def embed(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """One float32 vector for each image, whatever the others in the batch.

        Raises:
            UsageError: not floating-point images (n, C, H, W) of at least one pixel.
        """
        x = self._prepared(x)
        with no_autocast(x):
            return self._embed(x)

    def maps(self, x: Float[Tensor, "n c h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        """Feature maps from shallow to deep, float32, differentiable in x.

        Raises:
            UsageError: not floating-point images (n, C, H, W) of at least one pixel.
        """
        x = self._prepared(x)
        with no_autocast(x):
            return self._maps(x)

    forward = embed

    def compare(self, a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"]) -> Float[Tensor, "n"]:
        """Distance between maps of one depth: squared, of unit vectors along the channels, the mean over places.

        It lies from 0 to 4, whatever the size of the activations. (Zhang et al., 2018, arXiv:1801.03924, Eq. 1, with all
        weights 1)
        """
        return (_unit(a) - _unit(b)).square().sum(1).mean((-2, -1))

    def train(self, mode: bool = True) -> Features:
        """Stays in evaluation mode: batch statistics would make every distance depend on the batch."""
        return super().train(False)

    def _prepared(self, x: Tensor) -> Tensor:
        x = color(x)
        at = next(self.parameters(), x).device
        if at != x.device:
            _move(self, x.device)
        return x


FEATURES = registry.features.of(Features)


def _move(module: nn.Module, device: torch.device) -> bool:
    with torch.inference_mode(False):
        module.to(device)
    return True


# done while a compiled step is traced, since a graph cannot hold it; torch.compiler.assume_constant_result, which sets this,
# would load the compiler, two seconds of every start
_move._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]


def frozen(net: Net) -> Net:
    """The network without gradients for its parameters, in evaluation mode."""
    return net.requires_grad_(False).eval()


def _unit(t: Tensor) -> Tensor:
    return t * (t.square().sum(1, keepdim=True) + TINY).rsqrt()


def color(x: Tensor) -> Tensor:
    """Images (n, C, H, W) of any number of channels as float32 (n, 3, H, W) in [0, 1].

    Raises:
        UsageError: not floating-point images (n, C, H, W) of at least one pixel.
    """
    if x.dim() != 4 or not x.is_floating_point() or 0 in x.shape[1:]:
        raise UsageError(f"features are taken of floating-point images (n, C, H, W) in [0, 1]; got {tuple(x.shape)} of "
                         f"{str(x.dtype).removeprefix('torch.')}: divide bytes by 255, and put the channels second")
    x = x.float().clamp(0, 1)
    if x.shape[1] in (2, 4):
        alpha = x[:, -1:]
        x = x[:, :-1] * alpha + (1 - alpha)
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x[:, :3]


def resized(x: Tensor, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """Images at another size, antialiased when they shrink; as they are when they have it already."""
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size, mode=mode, align_corners=False, antialias=True).clamp(0, 1)


def normalised(x: Tensor) -> Tensor:
    """Pixels from [0, 1] to about mean 0 and variance 1 over ImageNet, per channel."""
    return (x - x.new_tensor(IMAGENET_MEAN)[:, None, None]) / x.new_tensor(IMAGENET_STD)[:, None, None]
