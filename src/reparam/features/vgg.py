"""VGG-16, whose early layers agree well with people about how alike two images are."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from .base import Features, frozen, normalised, resized
from .weights import Weights, fill

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the 3×3 convolutions between poolings."""
SIDE = 224
LEAST = 32
"""Shorter side of images whose maps are taken, so that the last of them is 2×2."""


class VGG16(nn.Module):
    """Configuration D of Simonyan & Zisserman (2015, arXiv:1409.1556), its tensors named as torchvision names them."""

    def __init__(self, *, classifier: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.taps: list[int] = []
        channels = 3
        for stage in STAGES:
            for width in stage:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            self.taps.append(len(layers) - 1)
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout(),
            nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 1000)) if classifier else None

    def stages(self, x: Tensor) -> list[Tensor]:
        """What each stage gives before it is pooled: relu1_2, relu2_2, relu3_3, relu4_3, relu5_3."""
        maps: list[Tensor] = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                maps.append(x)
            if len(maps) == len(self.taps):
                break
        return maps


class VGGFeatures(Features):
    """Maps relu1_2 to relu5_3 of images at their own size; vectors of 512, the mean of relu5_3 over places, at 224×224.

    Images whose shorter side is below 32 are enlarged to it for the maps. (Johnson et al., 2016, arXiv:1603.08155; Zhang et
    al., 2018, arXiv:1801.03924)
    """

    def __init__(self, net: VGG16, *, sha256: str) -> None:
        net.classifier = None  # nothing here reads it, and it is nine tenths of the memory
        super().__init__(name="vgg16", resize=f"bilinear, antialiased, to {SIDE}×{SIDE}", sha256=sha256)
        self.net = frozen(net)

    def _embed(self, x: Tensor) -> Tensor:
        return self.net.stages(normalised(resized(x, (SIDE, SIDE))))[-1].mean((-2, -1))

    def _maps(self, x: Tensor) -> list[Tensor]:
        h, w = x.shape[-2:]
        zoom = max(1.0, LEAST / min(h, w))
        return self.net.stages(normalised(resized(x, (round(h * zoom), round(w * zoom)))))


def vgg_features(weights: Weights, sha256: str, path: Path) -> Features:
    """Of VGG-16's weights.

    Raises:
        ModelFileError: the tensors are not VGG-16's.
    """
    with torch.device("meta"):
        net = VGG16(classifier="classifier.0.weight" in weights)
    fill(net, weights, path)
    return VGGFeatures(net, sha256=sha256)
