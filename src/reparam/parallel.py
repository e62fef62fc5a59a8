"""Other processes and devices: which process this is, and how processes share what they computed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import PartialState
from torch import Tensor


@dataclass(frozen=True)
class SingleProcess:
    """Stands for an Accelerator where one process trains by itself, whatever others there are."""

    device: torch.device
    num_processes: int = 1

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        """There is nobody to exchange with."""
        return tensor


def is_main_process() -> bool:
    """Whether this process is the one that writes and speaks."""
    return PartialState().is_main_process
