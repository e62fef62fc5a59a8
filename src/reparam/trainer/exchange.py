"""What processes that train one model exchange in a step: gradients, while the backward pass runs, and then a few numbers.

Gradients are averaged by torch's DistributedDataParallel. It expects the same parameters to get gradients every time, which
holds for each kind of turn by itself: the model alone, the critic alone, or both. So each kind has a wrapper of its own,
over the parameters that learn in it. Wrappers of one parameter do not mind each other: they count gradients between their
own forward pass and the end of the backward pass that follows, and at no other time.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import GradBucket  # pyright: ignore[reportPrivateImportUsage]
from torch.nn.parallel import DistributedDataParallel

from ..parallel import Processes
from .side import Side

Losses = Callable[..., Tensor]
"""Losses of a batch."""


class Exchange:
    """The exchange of one run between several processes.

    Args:
        losses: of one process's share of a batch.
        processes: who takes part.
        compress: whether gradients travel in bfloat16.
    """

    def __init__(self, losses: Losses, processes: Processes, *, compress: bool = False) -> None:
        self.losses, self.processes, self.compress = losses, processes, compress
        self._averaging: dict[tuple[int, ...], DistributedDataParallel] = {}

    def averaging(self, moved: Sequence[Side]) -> Losses:
        """The losses, whose backward pass leaves gradients that are means over the processes, of the sides that learn.

        What was left by earlier passes through the losses themselves, as of earlier pieces of a batch, is averaged along.
        """
        kind = tuple(map(id, moved))
        if kind not in self._averaging:
            self._averaging[kind] = self._wrapped([p for side in moved for flat in side.flats for p in flat.parameters])
        return self._averaging[kind]

    def means(self, *numbers: Tensor) -> list[Tensor]:
        """Means of some vectors over the processes, in one exchange."""
        shared: Any = self.processes.reduce(torch.cat(numbers), "mean")
        return [*shared.split([*map(len, numbers)])]

    def _wrapped(self, parameters: list[nn.Parameter]) -> DistributedDataParallel:
        # said of convolutions with one channel, whose two layouts are the same numbers in the same order
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
        wrapped = DistributedDataParallel(_Module(self.losses, parameters), init_sync=False, gradient_as_bucket_view=True,
                                          static_graph=True)
        if self.compress:
            wrapped.register_comm_hook(None, _compressed)
        return wrapped


class _Module(nn.Module):
    """Losses as a module that has the parameters that learn from them, and no buffers, which would be sent around."""

    def __init__(self, losses: Losses, parameters: list[nn.Parameter]) -> None:
        super().__init__()
        self.losses, self.learned = losses, nn.ParameterList(parameters)

    def forward(self, *args: Any) -> Tensor:
        return self.losses(*args)


def _compressed(group: Any, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """torch's own hook, which DistributedDataParallel takes by its name for one that only GPUs can run."""
    from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook  # it loads the compiler

    return bf16_compress_hook(group, bucket)
