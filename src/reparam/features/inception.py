"""Inception-v3, and the variant of it by which the Fréchet inception distance of the literature is measured."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Features, frozen, resized
from .weights import Weights, fill

SIDE = 299
FID_OUTPUTS = 1008
"""Classes of the network that the FID is measured with; torchvision's has 1000."""
FID_SHA256 = "6726825d"
"""First digits for the file that the FID's port to torch publishes, pt_inception-2015-12-05-6726825d.pth."""


class Convolution(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, channels: int, width: int, kernel: int | tuple[int, int], *, stride: int = 1,
                 padding: int | tuple[int, int] = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _row(channels: int, width: int, n: int = 7) -> Convolution:
    return Convolution(channels, width, (1, n), padding=(0, n // 2))


def _column(channels: int, width: int, n: int = 7) -> Convolution:
    return Convolution(channels, width, (n, 1), padding=(n // 2, 0))


class Grid35(nn.Module):
    """Branches of 1×1, 5×5 and two 3×3 convolutions and a pool. (Szegedy et al., 2016, arXiv:1512.00567, Fig. 5)"""

    def __init__(self, channels: int, pooled: int, *, fid: bool) -> None:
        super().__init__()
        self.fid = fid
        self.branch1x1 = Convolution(channels, 64, 1)
        self.branch5x5_1 = Convolution(channels, 48, 1)
        self.branch5x5_2 = Convolution(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = Convolution(channels, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, padding=1)
        self.branch_pool = Convolution(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double,
                          self.branch_pool(_average(x, self.fid))], 1)


class To17(nn.Module):
    """Halves the grid from 35 to 17. (Fig. 10)"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = Convolution(channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = Convolution(channels, 64, 1)
        self.branch3x3dbl_2 = Convolution(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = Convolution(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class Grid17(nn.Module):
    """7×7 convolutions taken apart into 1×7 and 7×1. (Fig. 6)"""

    def __init__(self, width: int, *, fid: bool) -> None:
        super().__init__()
        self.fid = fid
        self.branch1x1 = Convolution(768, 192, 1)
        self.branch7x7_1 = Convolution(768, width, 1)
        self.branch7x7_2 = _row(width, width)
        self.branch7x7_3 = _column(width, 192)
        self.branch7x7dbl_1 = Convolution(768, width, 1)
        self.branch7x7dbl_2 = _column(width, width)
        self.branch7x7dbl_3 = _row(width, width)
        self.branch7x7dbl_4 = _column(width, width)
        self.branch7x7dbl_5 = _row(width, 192)
        self.branch_pool = Convolution(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(_average(x, self.fid))], 1)


class To8(nn.Module):
    """Halves the grid from 17 to 8."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = Convolution(768, 192, 1)
        self.branch3x3_2 = Convolution(192, 320, 3, stride=2)
        self.branch7x7x3_1 = Convolution(768, 192, 1)
        self.branch7x7x3_2 = _row(192, 192)
        self.branch7x7x3_3 = _column(192, 192)
        self.branch7x7x3_4 = Convolution(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, 2)], 1)


class Grid8(nn.Module):
    """3×3 convolutions spread out into 1×3 beside 3×1. (Fig. 7)"""

    def __init__(self, channels: int, *, fid: bool, max_pool: bool = False) -> None:
        super().__init__()
        self.fid, self.max_pool = fid, max_pool
        self.branch1x1 = Convolution(channels, 320, 1)
        self.branch3x3_1 = Convolution(channels, 384, 1)
        self.branch3x3_2a = _row(384, 384, 3)
        self.branch3x3_2b = _column(384, 384, 3)
        self.branch3x3dbl_1 = Convolution(channels, 448, 1)
        self.branch3x3dbl_2 = Convolution(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _row(384, 384, 3)
        self.branch3x3dbl_3b = _column(384, 384, 3)
        self.branch_pool = Convolution(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, 1, 1) if self.max_pool else _average(x, self.fid)
        return torch.cat([self.branch1x1(x), self.branch3x3_2a(single), self.branch3x3_2b(single),
                          self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(pooled)], 1)


def _average(x: Tensor, fid: bool) -> Tensor:
    """Mean over 3×3 places; at the border the FID's network leaves out the padding, torchvision's counts it as zeros."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=not fid)


class Auxiliary(nn.Module):
    """A second classifier that helps to train the network. Here only its tensors are of interest, to tell a whole file."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv0 = Convolution(768, 128, 1)
        self.conv1 = Convolution(128, 768, 5)
        self.fc = nn.Linear(768, outputs)


class InceptionV3(nn.Module):
    """Inception-v3 (Szegedy et al., 2016, arXiv:1512.00567), its tensors named as torchvision names them.

    With `fid` it is the network that the FID is measured with, a TensorFlow graph of 2015 (Heusel et al., 2017,
    arXiv:1706.08500), whose average pools leave out the padding and whose last block takes the maximum in its pool.
    """

    def __init__(self, *, outputs: int = 1000, auxiliary: bool = True, fid: bool = False) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        self.Mixed_5b = Grid35(192, 32, fid=fid)
        self.Mixed_5c = Grid35(256, 64, fid=fid)
        self.Mixed_5d = Grid35(288, 64, fid=fid)
        self.Mixed_6a = To17(288)
        self.Mixed_6b = Grid17(128, fid=fid)
        self.Mixed_6c = Grid17(160, fid=fid)
        self.Mixed_6d = Grid17(160, fid=fid)
        self.Mixed_6e = Grid17(192, fid=fid)
        self.AuxLogits = Auxiliary(outputs) if auxiliary else None
        self.Mixed_7a = To8()
        self.Mixed_7b = Grid8(1280, fid=fid)
        self.Mixed_7c = Grid8(2048, fid=fid, max_pool=fid)
        self.fc = nn.Linear(2048, outputs)

    def stages(self, x: Tensor) -> list[Tensor]:
        """The last maps of each size: 64, 192, 288, 768 and 2048 channels, of images (n, 3, 299, 299) in [−1, 1]."""
        a = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        b = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(a, 3, 2)))
        c = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(b, 3, 2))))
        d = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(c)))))
        return [a, b, c, d, self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(d)))]


class InceptionFeatures(Features):
    """Vectors of 2048, the mean over places of the last maps (`pool3`), and five maps, of images brought to 299×299.

    The FID's own network is given images enlarged without antialiasing, as its figures are made; distances under its
    standard weights are the FID (Heusel et al., 2017, arXiv:1706.08500) and KID (Bińkowski et al., 2018, arXiv:1801.01401).
    """

    def __init__(self, net: InceptionV3, *, fid: bool, sha256: str) -> None:
        net.AuxLogits = None
        rule = f"bilinear, not antialiased, to {SIDE}×{SIDE}" if fid else f"bilinear, antialiased, to {SIDE}×{SIDE}"
        super().__init__(name="inception_v3_fid" if fid else "inception_v3", resize=rule, sha256=sha256,
                         standard=fid and sha256.startswith(FID_SHA256))
        self.net, self.fid = frozen(net), fid

    def _embed(self, x: Tensor) -> Tensor:
        return self._maps(x)[-1].mean((-2, -1))

    def _maps(self, x: Tensor) -> list[Tensor]:
        size = (SIDE, SIDE)
        x = F.interpolate(x, size, mode="bilinear", align_corners=False) if self.fid else resized(x, size)
        return self.net.stages(2 * x - 1)


def inception_features(weights: Weights, sha256: str, path: Path) -> Features:
    """Of Inception-v3's weights: the FID's variant where they have 1008 outputs.

    Raises:
        ModelFileError: the tensors are not Inception-v3's.
    """
    outputs = len(weights["fc.bias"]) if "fc.bias" in weights else 1000
    fid = outputs == FID_OUTPUTS
    with torch.device("meta"):
        net = InceptionV3(outputs=outputs, auxiliary="AuxLogits.fc.weight" in weights, fid=fid)
    fill(net, weights, path)
    return InceptionFeatures(net, fid=fid, sha256=sha256)
