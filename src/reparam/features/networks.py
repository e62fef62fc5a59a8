"""Which network a file of weights belongs to, told by the names of its tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import ModelFileError
from .base import Features
from .dinov2 import dinov2_features
from .inception import inception_features
from .vgg import vgg_features
from .weights import Weights, read_weights

NETWORKS: dict[str, tuple[str, Callable[[Weights, str, Path], Features]]] = {
    "VGG-16 (torchvision's names, with or without classifier)": ("features.28.weight", vgg_features),
    "Inception-v3 (torchvision's names; with 1008 outputs the FID's)": ("Mixed_7c.branch_pool.conv.weight",
                                                                        inception_features),
    "DINOv2 ViT-S/14, B/14 and L/14 (with or without registers)": ("blocks.0.ls1.gamma", dinov2_features),
}
"""What is recognised: in words, a tensor that only it has, and how to build it."""


def read_features(path: Path) -> Features:
    """The network of a file of weights.

    Raises:
        ModelFileError: a damaged file, an unknown network, or one whose tensors are not those that its names promise.
    """
    weights, sha256 = read_weights(path)
    for mark, build in NETWORKS.values():
        if mark in weights:
            return build(weights, sha256, path)
    raise ModelFileError(f"{path} holds no network that is known: its tensors begin with {', '.join(list(weights)[:3])}. "
                         f"Known: {'; '.join(NETWORKS)}")
