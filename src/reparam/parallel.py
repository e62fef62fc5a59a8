"""Other processes and devices: which process this is, and what processes that train one model compute together.

Inside `in_company` the functions `summed`, `averaged` and `gathered` reach over all processes; outside it, and alone, they
give back what they are given. Gradients go the other way: what a process gave receives the sum of what all made of it.
Each process minimises the mean over its own images, and the gradients of all are averaged. With f_r the loss of process r of
P and g_s what s gave, that is (1/P) Σ_s Σ_r ∂f_r/∂g_s · ∂g_s/∂θ = ∂(1/P Σ_r f_r)/∂θ: the gradient of the mean of the losses,
with no factor, whether each computes its own rows of a sum or all the same whole.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from torch import Tensor, nn
from torch.distributed import PrefixStore, TCPStore  # pyright: ignore[reportPrivateImportUsage]

from .errors import ProcessLost


@dataclass(frozen=True)
class SingleProcess:
    """Takes the place of an Accelerator where one process trains by itself, whatever other processes there are."""

    device: torch.device
    num_processes: int = 1
    process_index: int = 0

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        """The tensor itself: there is no other process to average with."""
        return tensor


Processes = Accelerator | SingleProcess
"""Where to compute, and with which other processes."""


def join(device: str = "auto") -> Accelerator:
    """The device, and the other processes where torchrun or `accelerate launch` has started several. "cpu" leaves an
    accelerator alone, as several processes do that have none which can exchange anything."""
    found = torch.accelerator.current_accelerator(check_available=True)
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several and restarts() and not dist.is_initialized() and _on_one_machine_by_the_agents_store():
        _meet_again()
    return Accelerator(cpu=device == "cpu" or (several and (found is None or found.type == "mps")))


def restarts() -> int:
    """How often torchrun has started this process anew."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _on_one_machine_by_the_agents_store() -> bool:
    return os.environ.get("GROUP_WORLD_SIZE") == "1" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _meet_again() -> None:
    """Joins the processes of this attempt of torchrun, on one machine.

    Its agent keeps one store for all attempts, where torch finds the addresses of processes that have ended, and waits for
    them (torch 2.13). So each attempt has names of its own in it. With several machines the counts of their agents differ.
    """
    address, port, rank, size = (os.environ[name] for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"))
    store = TCPStore(address, int(port), is_master=False)
    dist.init_process_group(store=PrefixStore(f"attempt {restarts()}", store), rank=int(rank), world_size=int(size))


def is_main_process() -> bool:
    """Whether this process is the one that writes files and reports progress."""
    return PartialState().is_main_process


@dataclass
class Company:
    """The processes that compute one batch together."""

    size: int = 1
    rank: int = 0


COMPANY = Company()
"""Those that this process is with now. torch's own group tells who is there, not who takes part in what is computed."""


@contextlib.contextmanager
def in_company(processes: Processes) -> Generator[None]:
    """A region in which a batch is computed together with other processes, each of which goes through it alike."""
    before = COMPANY.size, COMPANY.rank
    COMPANY.size, COMPANY.rank = processes.num_processes, processes.process_index
    try:
        yield
    finally:
        COMPANY.size, COMPANY.rank = before


class _Summed(torch.autograd.Function):
    """The sum over processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, t: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = t.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def summed(t: Tensor) -> Tensor:
    """The sum of `t` over all processes."""
    return _Summed.apply(t) if COMPANY.size > 1 else t  # pyright: ignore[reportReturnType]


def averaged(t: Tensor) -> Tensor:
    """The mean of `t` over all processes."""
    return summed(t) / COMPANY.size if COMPANY.size > 1 else t


def norm_over_processes(norms: Tensor) -> Tensor:
    """The norms of vectors of which each process has a part, from the norms of its parts."""
    return summed(norms.square()).sqrt() if COMPANY.size > 1 else norms


def gathered(t: Tensor, dim: int = 0) -> Tensor:
    """The rows of all processes along an axis, in the order of the processes, of which each has as many."""
    if COMPANY.size == 1:
        return t
    nothing = torch.zeros_like(t)
    slots = torch.stack([t if i == COMPANY.rank else nothing for i in range(COMPANY.size)])
    return summed(slots).movedim(0, dim).flatten(dim, dim + 1)


def agree_with_first(module: nn.Module) -> None:
    """Gives parameters and buffers of a module the values that they have in the first process."""
    for t in module.state_dict().values():
        dense = t.contiguous()
        dist.broadcast(dense, 0)
        t.copy_(dense)


@contextlib.contextmanager
def answered() -> Generator[None]:
    """A region in which other processes are waited for.

    Raises:
        ProcessLost: one of them has ended.
    """
    try:
        yield
    except RuntimeError as e:
        if not isinstance(e, dist.DistError) and "gloo" not in str(e).lower():
            raise
        raise ProcessLost(f"another process of this training has ended ({str(e).splitlines()[0][:200]}); see what it said, "
                          "and resume the run, which goes on from the last saved state") from e


@contextlib.contextmanager
def drawing_apart(processes: Processes) -> Generator[None]:
    """A region in which each process draws random numbers of its own.

    They follow from the generator's state before, which is the same in all, and which is left a single draw further on: a
    state of one process continues all of them.
    """
    if processes.num_processes == 1:
        yield
        return
    seed = int(torch.randint(2**62, ()))
    common = torch.get_rng_state()
    torch.manual_seed(seed + processes.process_index)
    try:
        yield
    finally:
        torch.set_rng_state(common)
