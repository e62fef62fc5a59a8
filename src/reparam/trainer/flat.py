"""A module's parameters as one vector, so that norm, clipping, optimizer and average each go through memory once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property

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

    @cached_property
    def matrices(self) -> list[nn.Parameter]:
        """Each parameter for an optimizer that sees rows and columns: kernels of convolutions are matrices of outputs by the
        rest, in the order of memory; vectors stay what they are."""
        return [nn.Parameter(_as_matrix(self.vector.detach(), view), self.vector.requires_grad) for view in self.views]

    def share(self) -> None:
        """Gives the matrices their parts of the vector's gradient."""
        gradient = self.vector.grad
        if gradient is not None:
            for m in self.matrices:
                m.grad = gradient.as_strided(m.shape, m.stride(), m.storage_offset())

    @staticmethod
    def _in_order(p: nn.Parameter, view: Tensor) -> Tensor:
        """A gradient in the order in which its parameter lies in memory, (numel,)."""
        if p.grad is None:
            return view.new_zeros(view.numel())
        grad = p.grad if p.grad.stride() == view.stride() else torch.empty_like(view).copy_(p.grad)
        return grad.as_strided((grad.numel(),), (1,))


def _as_matrix(vector: Tensor, view: Tensor) -> Tensor:
    """The numbers of a view of a vector, in the order of memory, as a matrix whose rows are those of its outermost
    dimension; one dimension remains one."""
    if view.dim() < 2:
        return view
    rows = view.shape[max(range(view.dim()), key=lambda d: (view.stride(d), view.shape[d]))]
    return vector.as_strided((rows, view.numel() // rows), (view.numel() // rows, 1), view.storage_offset())


def _laid_in(vector: Tensor, start: int, p: Tensor) -> Tensor:
    """The numbers of a vector from `start` on, in the shape and layout of `p`."""
    return vector.as_strided(p.shape, torch.empty_like(p).stride(), start)
