"""Small functions of tensors and shapes that every package uses."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Shape = tuple[int, ...]
"""Shape of one example: (D,) or (C, H, W)."""


def bounded(raw: Tensor, bound: float) -> Tensor:
    """`bound`·tanh(raw/bound): near zero the identity, never beyond ±bound, and with a gradient everywhere."""
    return bound * torch.tanh(raw / bound)


def fold(net: nn.Module, z: Tensor) -> Tensor:
    """Applies `net` to a tensor with two leading axes, (K, B, …)."""
    return net(z.flatten(0, 1)).unflatten(0, z.shape[:2])


def no_autocast(t: Tensor) -> torch.autocast:
    """A region where arithmetic stays in float32 also under autocast."""
    kind = t.device.type
    return torch.autocast("cpu" if kind == "meta" else kind, enabled=False)  # a model without memory knows no autocast


@contextlib.contextmanager
def no_denormals() -> Generator[None]:
    """A region in which this thread takes numbers that are too small for their full precision for zero, in numpy as well.

    Intel's processors take up to fifty times as long for arithmetic with them.
    """
    before = float(torch.tensor(1e-40) * 1) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def on_device(numbers: Sequence[float], device: torch.device) -> Tensor:
    """Numbers of the host on a device, (n,); the host does not wait until they have got there."""
    there = torch.tensor(numbers, device="cpu", pin_memory=device.type == "cuda")
    return there.to(device, non_blocking=True)


def forked_rng(*, enabled: bool = True) -> contextlib.AbstractContextManager[None]:
    """A region after which random numbers go on as if it had not been: those of the CPU, and of this process's own GPU.

    torch's own claims memory on every GPU that there is.
    """
    return torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else [], enabled)


def one_hot(classes: Tensor, n: int) -> Tensor:
    """Whole numbers (…) as ones among zeros (…, n); zeros alone for one that is no class.

    torch's own waits for the device, to check them.
    """
    return (classes[..., None] == torch.arange(n, device=classes.device)).float()


def as_pixels(images: Tensor) -> Tensor:
    """uint8 levels as floats in [0, 1]; floats as they are."""
    if images.dtype != torch.uint8:
        return images.float()
    if images.device.type != "cpu":
        return images.float().div_(255)
    # one pass over memory, where torch takes two: it converts a whole array before it divides
    return torch.from_numpy(np.divide(images.numpy(), np.float32(255), dtype=np.float32))


def at_once(shape: Sequence[int], most: int = 250) -> int:
    """How many images of a shape (…, H, W) to take: `most` of up to 64×64 pixels; of larger ones no more pixels than in
    these, but one image at least. By itself, as many as pass through a network at a time."""
    return max(1, min(most, most * 64**2 // math.prod(shape[-2:])))


def evenly(n: int, most: int) -> npt.NDArray[np.int64]:
    """At most `most` of the rows 0 to n − 1, evenly spaced over all of them: rows often lie class by class."""
    count = min(n, most)
    return np.arange(count) * n // max(count, 1)
