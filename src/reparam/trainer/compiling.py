"""Steps that torch's compiler makes: where it can, and of what."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Generator, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError

Losses = Callable[..., Tensor]
SHOWN = 160
"""Characters of what the compiler says when it fails."""


class CannotCompile(UsageError):
    """The compiler failed, on this model or on this machine."""


def compiler_at_hand(device: torch.device) -> bool:
    """Whether torch would find the C++ compiler that it calls; on a GPU Triton as well. Loads neither."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    found = shutil.which(os.environ.get("CXX", usual)) is not None
    return found and (device.type == "cpu" or (device.type == "cuda" and find_spec("triton") is not None))


def compiled(losses: Losses, networks: list[nn.Module] | None, device: torch.device, pieces: int = 1) -> Losses:
    """Losses that are compiled when they are first called.

    Args:
        losses: of a batch, or of one of the `pieces` that it is computed in.
        networks: compiled each by itself, where losses take gradients on their way: what is compiled is differentiated
            once and no more. None compiles the losses as one graph.
        device: where they are computed. A GPU replays a step as a whole, since small networks wait for Python to launch
            their operations one by one; not in pieces, whose gradients the next piece would overwrite.
    """
    replayed = device.type == "cuda" and pieces == 1 and networks is None
    mode = "reduce-overhead" if replayed else None
    if networks is not None:
        return _with_networks(losses, {net: torch.compile(net.forward, mode=mode) for net in networks})
    made = torch.compile(losses, fullgraph=True, mode=mode)
    return _replayed(made) if replayed else made


def _replayed(losses: Losses) -> Losses:
    """Says where a step begins: what the last one left in the graph's memory is no longer needed."""

    def of_step(*batch: Any) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        return losses(*batch)

    return of_step


def _with_networks(losses: Losses, forwards: Mapping[nn.Module, Callable[..., Tensor]]) -> Losses:
    """Losses that call networks by other `forwards` than their own; whoever else calls these meets them as they are."""

    from torch._functorch import config

    def of_batch(*batch: Any) -> Tensor:
        with _calling(forwards), config.patch(donated_buffer=False):  # a graph may be gone through twice
            warnings.filterwarnings("ignore", "The .grad attribute of a Tensor")  # which the compiler looks at
            return losses(*batch)

    return of_batch


@contextlib.contextmanager
def _calling(forwards: Mapping[nn.Module, Callable[..., Tensor]]) -> Generator[None]:
    for net, forward in forwards.items():
        net.forward = forward
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for net in forwards:
            del net.forward


@contextlib.contextmanager
def plainly(compiles: bool) -> Generator[None]:
    """A region whose errors are told in a line where the compiler is to blame, if it `compiles`."""
    try:
        yield
    except Exception as e:
        if not compiles or not _is_compilers(e):
            raise
        said = " ".join(str(e).split())[:SHOWN]
        raise CannotCompile(f"torch cannot compile this model here ({said}): give compile off") from e


def _is_compilers(error: Exception) -> bool:
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)
