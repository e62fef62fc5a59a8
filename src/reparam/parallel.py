"""Other processes and devices: which process this is, and how processes share what they computed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator, PartialState
from torch import Tensor


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


def is_main_process() -> bool:
    """Whether this process is the one that writes files and reports progress."""
    return PartialState().is_main_process
