"""Draws of an autoregressive prior as one loop within a program, where PyTorch's would be written out step after step."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from ..distributions import Distribution
from ..models.draw import Draw
from ..models.priors import Autoregressive, Prior
from ..models.priors.discrete import Block, pick


class Looped(Prior):
    """An autoregressive prior that draws the same codes of the same noise, by a loop that a program can hold."""

    def __init__(self, prior: Autoregressive) -> None:
        nn.Module.__init__(self)
        self.prior, self.shape = prior, prior.shape

    def forward(self) -> Distribution:
        return self.prior()

    def from_noise(self, u: Tensor, options: Draw = Draw()) -> Tensor:
        """Keys and values have room for all places: every step writes its own and reads those before."""
        net, blocks, n = self.prior, cast("list[Block]", list(self.prior.blocks)), u.shape[0]
        places = torch.arange(net.length)

        def step(carried: tuple[Tensor, ...], given: tuple[Tensor, Tensor, Tensor]) -> tuple[tuple[Tensor, ...], Tensor]:
            (x, *memories), (i, position, u_i) = carried, given
            x, here, seen = x + position, (places == i)[:, None], (places <= i)[None]
            written: list[Tensor] = []
            for block, keys, values in zip(blocks, memories[::2], memories[1::2], strict=True):
                q, k, v = block.parts(x)
                k, v = torch.where(here, k, keys), torch.where(here, v, values)
                x = block.after(x, F.scaled_dot_product_attention(q, k, v, attn_mask=seen))
                written += [k, v]
            code = pick(net.head(net.norm(x)).squeeze(1), u_i, options.one_temperature)
            return (F.embedding(code[:, None], net.embedding), *written), code.clone()

        heads, width = blocks[0].heads, net.start.shape[-1]
        empty = [u.new_zeros(n, heads, net.length, width // heads) for _ in range(2 * len(blocks))]
        start = net.start.expand(n, -1, -1).clone()
        _, codes = scan(step, (start, *empty), (places, net.position, u.T.contiguous()))
        return codes.T.reshape(n, *self.shape)
