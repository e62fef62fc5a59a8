"""Loops without a library: a plain one as a careful user writes it, and those that two well-known programs print.

The networks are ours, the same as in `ours`. Batches are taken from one array by index, which is quicker than a DataLoader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reparam.runtime import cores
from reparam.trainer.assembly import Assembly
from reparam.trainer.autotune import computes_in_bf16

from .networks import RECIPES, images_for, shape_for
from .ours import parameters, quickest, rate

Speed = tuple[dict[str, Any], Callable[[], float]]


def batches(images: np.ndarray, size: int) -> Iterator[Tensor]:
    """Batches (B, C, H, W) without end."""
    data = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    while True:
        for rows in torch.randperm(len(data)).split(size)[: len(data) // size]:
            yield data[rows].float() / 255


def _careful(assembly: Assembly, data: Iterator[Tensor], bf16: bool) -> Callable[[], int]:
    """Fused AdamW, channels_last, autocast, gradients set to None, and nothing read by the host."""
    model = assembly.model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    weights = torch.tensor(assembly.objective.weights(0.5))

    def step() -> int:
        x = next(data)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = (assembly.objective.parts(model(x)) * weights).sum()
        loss.backward()
        optimizer.step()
        return len(x)

    return step


def _printed(assembly: Assembly, data: Iterator[Tensor]) -> Callable[[], int]:
    """As AntixK/PyTorch-VAE does it under Lightning: Adam, float32, and every loss read by the host for the log."""
    model = assembly.model
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

    def step() -> int:
        x = next(data)
        optimizer.zero_grad()
        parts = assembly.objective.parts(model(x))
        loss = parts[0] + 1.536 * parts[1]
        loss.backward()
        optimizer.step()
        {"loss": loss.item(), "Reconstruction_Loss": parts[0].item(), "KLD": parts[1].item()}
        return len(x)

    return step


def _in_turn(assembly: Assembly, data: Iterator[Tensor], *, bf16: bool, careful: bool) -> Callable[[], int]:
    """A GAN as PyTorch's DCGAN tutorial trains it: the critic on real images, on fakes, then the generator."""
    generator, critic = assembly.model, assembly.adversary.critic
    if careful:
        generator, critic = (m.to(memory_format=torch.channels_last) for m in (generator, critic))
    settings = {"lr": 2e-4, "betas": (0.5, 0.999), "fused": careful or None}
    of_generator, of_critic = (torch.optim.Adam(m.parameters(), **settings) for m in (generator, critic))

    def scored(images: Tensor, real: float) -> Tensor:
        scores = critic(images)
        return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, real))

    def step() -> int:
        x = next(data)
        critic.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            on_real = scored(x, 1.0)
        on_real.backward()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            fake = generator.draw(len(x)).mean[0]
            on_fake = scored(fake.detach(), 0.0)
        on_fake.backward()
        of_critic.step()
        generator.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = scored(fake, 1.0)
        loss.backward()
        of_generator.step()
        if not careful:
            (on_real + on_fake).item(), loss.item()
        return len(x)

    return step


def _loop(name: str, data: str, batch: int, bf16: bool, careful: bool) -> tuple[Assembly, Callable[[], int]]:
    assembly = Assembly(RECIPES[name].but(batch_size=batch), shape_for(name))
    drawn = batches(images_for(name, data), batch)
    if assembly.adversary is not None:
        return assembly, _in_turn(assembly, drawn, bf16=bf16, careful=careful)
    return assembly, _careful(assembly, drawn, bf16) if careful else _printed(assembly, drawn)


def speed(name: str, data: str, batch: int, careful: bool) -> Speed:
    """Images a second, with one thread or all; the careful one in float32 or bfloat16, whichever is quicker."""
    precisions = (False, True) if careful and computes_in_bf16() else (False,)
    made = {(threads, bf16): _loop(name, data, batch, bf16, careful) for threads in {1, cores()} for bf16 in precisions}
    threads, bf16 = best = quickest({key: step for key, (_, step) in made.items()})
    assembly, step = made[best]
    told = {"precision": "bf16" if bf16 else "float32", "threads": threads, "parameters": parameters(assembly)}
    return told, lambda: rate(step)
