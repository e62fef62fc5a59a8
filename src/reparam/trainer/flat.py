"""A module's parameters as one vector, so that norm, clipping, optimizer and average each go through memory once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

LINE = 16
"""Numbers to whose multiples each parameter begins: 64 bytes of float32, a line of the processor's cache."""


class Flat:
    """Parameters as views of one vector, in their own shapes and memory layouts.

    Their gradients are left to autograd, which makes them anew in each backward pass, and are gathered after it.

    Args:
        parameters: of one type, on one device; from now on they live in `vector`.

    Attributes:
        vector: all of them, which an optimizer may step as one parameter.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        ends = itertools.accumulate(-(-p.numel() // LINE) * LINE for p in self.parameters)
        starts = [0, *ends]
        like = self.parameters[0]
        self.vector = nn.Parameter(like.new_zeros(starts[-1]), requires_grad=like.requires_grad)
        self.views = [_laid_in(self.vector.detach(), start, p) for start, p in zip(starts, self.parameters, strict=False)]
        self._gaps = [like.new_zeros(-p.numel() % LINE) for p in self.parameters]
        for p, view in zip(self.parameters, self.views, strict=True):
            view.copy_(p.detach())
            p.data = view

    def forget(self) -> None:
        """Drops the gradients."""
        for p in self.parameters:
            p.grad = None

    def gather(self) -> None:
        """Makes the vector's gradient of theirs: 0 for a parameter that has none, None where none has one."""
        self.vector.grad = None
        if all(p.grad is None for p in self.parameters):
            return
        pieces = [self._in_order(p, view) for p, view in zip(self.parameters, self.views, strict=True)]
        self.vector.grad = torch.cat([*itertools.chain.from_iterable(zip(pieces, self._gaps, strict=True))])

    def share(self) -> None:
        """Gives the parameters their parts of the vector's gradient, for an optimizer that steps each by itself."""
        if self.vector.grad is not None:
            for p, view in zip(self.parameters, self.views, strict=True):
                p.grad = self.vector.grad.as_strided(view.shape, view.stride(), view.storage_offset())

    @staticmethod
    def _in_order(p: nn.Parameter, view: Tensor) -> Tensor:
        """A gradient in the order in which its parameter lies in memory, (numel,)."""
        if p.grad is None:
            return view.new_zeros(view.numel())
        grad = p.grad if p.grad.stride() == view.stride() else torch.empty_like(view).copy_(p.grad)
        return grad.as_strided((grad.numel(),), (1,))


def _laid_in(vector: Tensor, start: int, p: Tensor) -> Tensor:
    """The numbers of a vector from `start` on, in the shape and layout of `p`."""
    return vector.as_strided(p.shape, torch.empty_like(p).stride(), start)
