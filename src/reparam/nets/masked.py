"""Layers of which outputs see some inputs only, and networks with such masks multiplied in once and for all."""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .autoregressive import Autoregressive

N = TypeVar("N", bound=nn.Module)


class CausalConv(nn.Conv2d):
    """A convolution between channels with levels: outputs see the inputs of levels up to their own, or if `strict` below it.

    `weight` is the list of weights between those, output after output; others do not exist (Germain et al., 2015,
    arXiv:1502.03509, masks them). Those of an output that sees few inputs start larger, so that all outputs start alike.
    """

    places: Tensor

    def __init__(self, inputs: list[int], outputs: list[int], size: int, strict: bool = False) -> None:
        super().__init__(len(inputs), len(outputs), size, padding=size // 2)
        with torch.device("cpu"):  # known by value, also where a model has no memory yet, and so not in its files
            i, o = torch.tensor(inputs), torch.tensor(outputs)[:, None]
            seen = i < o if strict else i <= o
            many = size**2 * seen.sum(1)
            places = seen.repeat_interleave(size**2, 1).flatten().nonzero().flatten()
            bounds = (many.float() ** -0.5).repeat_interleave(many)
        self.register_buffer("places", places, persistent=False)
        start = torch.empty(len(bounds)).uniform_(-1, 1)
        self.weight = nn.Parameter(start * bounds.to(start.device))

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.dense(), self.bias, padding="same")

    def dense(self) -> Tensor:
        """All weights, with zeros for those that do not exist."""
        shape = (self.out_channels, self.in_channels, *self.kernel_size)
        return self.weight.new_zeros(math.prod(shape)).index_copy(0, self.places, self.weight).view(shape)

    def baked(self) -> nn.Conv2d:
        conv = nn.Conv2d(self.in_channels, self.out_channels, self.kernel_size[0], padding="same", device="meta")
        conv.weight, conv.bias = nn.Parameter(self.dense().detach()), self.bias
        return conv


def baked(net: N) -> N:
    """A network without masks that computes the same numbers, to the bit, for use without training: what is masked has dense
    weights there. One that has no masks comes back as it is."""
    dense: dict[int, object] = {id(m): m.baked() for m in net.modules() if isinstance(m, CausalConv | Autoregressive)}
    return copy.deepcopy(net, dense) if dense else net
