"""Snapshots, from which a training run continues, and the check that one fits the run before it is copied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict

import torch
from torch import Tensor, nn

from ..files.untrusted import Amount, Count, Malformed, Share, Within, conform, not_finite

Snapshot = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors and numbers from which a run continues exactly."""
Slots = Callable[[Tensor], Mapping[str, Tensor]]
"""An optimizer's state of a parameter, by name."""
MAX_ROLLBACKS = 8


class GuardNumbers(TypedDict):
    """The state of a `Guard`."""

    norms: list[Amount]
    skipped: Count
    in_a_row: Count
    broken_in_a_row: Count
    rescues: Count
    at_start: Annotated[float, Within(-torch.inf, 1e300)]


class Numbers(TypedDict):
    """The numbers of a snapshot."""

    step: Count
    images: Count
    seconds: Amount
    cpu_seconds: Amount
    progress: Share
    lr_scale: Annotated[float, Within(2.0**-MAX_ROLLBACKS, 1)]
    rollbacks: Annotated[int, Within(0, MAX_ROLLBACKS)]
    guard: GuardNumbers
    steps: NotRequired[list[Count]]
    """Of each group of an optimizer that counts them there; none in a state of an earlier version."""
    critic_steps: NotRequired[list[Count]]
    weights: NotRequired[dict[str, float]]
    """None in a state of an earlier version."""
    critic_guard: NotRequired[GuardNumbers]


def check_snapshot(saved: Snapshot, wanted: Mapping[str, Tensor], slots: Mapping[str, Tensor | None]) -> None:
    """Compares a snapshot with the tensors that it is to be copied into: names, types and shapes, then values.

    `slots` are the optimizers' tensors, which a parameter without a gradient lacks.

    Raises:
        ValueError: what does not fit.
    """
    tensors, numbers = saved
    conform(numbers, Numbers)
    expected = {**slots, **wanted}
    for name in sorted(wanted.keys() - tensors.keys()):
        if name != "rng.cuda":  # begun on a machine without
            raise Malformed(f"{name} is missing")
    for name, value in tensors.items():
        like = expected.get(name)
        if name == "rng.cuda" and like is None:  # begun on a machine with one
            continue
        if like is None:
            raise Malformed(f"{name} is not expected")
        if (value.dtype, value.shape) != (like.dtype, like.shape):
            raise Malformed(f"{name} is {described(value)}, not {described(like)}")
    _check_slots(tensors, slots)
    if (name := not_finite(tensors)) is not None:
        raise Malformed(f"{name} holds values that are not finite")


def _check_slots(tensors: Mapping[str, Tensor], slots: Mapping[str, Any]) -> None:
    """A parameter has all of its slots or none."""
    begun = {name.rpartition(".")[0] for name in slots if name in tensors}
    for name in slots:
        if name.rpartition(".")[0] in begun and name not in tensors:
            raise Malformed(f"{name} is missing")


def described(tensor: Tensor) -> str:
    """Type and shape of a tensor, 'float32 (3, 4)'."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def slots_of(name: str, optimizer: torch.optim.Optimizer | None,
             make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The tensors of an optimizer's state after a step, by name, on the meta device: one step of another optimizer is taken
    for each shape."""
    by_shape: dict[tuple[torch.dtype, torch.Size], dict[str, Tensor]] = {}
    slots: dict[str, Tensor] = {}
    for i, p in enumerate(parameters_of(optimizer)):
        if (p.dtype, p.shape) not in by_shape:
            by_shape[p.dtype, p.shape] = _after_a_step(p, make)
        slots |= {f"{name}.{i}.{k}": v for k, v in by_shape[p.dtype, p.shape].items()}
    return slots


def _after_a_step(p: Tensor, make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> dict[str, Tensor]:
    probe = nn.Parameter(torch.zeros_like(p))
    probe.grad = torch.zeros_like(p)
    optimizer = make([probe])
    optimizer.step()
    return {k: v.to("meta") for k, v in optimizer.state_dict()["state"].get(0, {}).items()}


def parameters_of(optimizer: torch.optim.Optimizer | None) -> list[nn.Parameter]:
    """All of an optimizer's parameters, in its order."""
    return [p for group in optimizer.param_groups for p in group["params"]] if optimizer is not None else []


def held_by(name: str, optimizer: torch.optim.Optimizer | None) -> dict[str, Tensor]:
    """An optimizer's tensors by name, 'optimizer.3.exp_avg'."""
    held = optimizer.state_dict()["state"] if optimizer is not None else {}
    return {f"{name}.{i}.{k}": v for i, slots in held.items() for k, v in slots.items()}


def steps_of(optimizer: torch.optim.Optimizer | None) -> list[int]:
    """The steps that each group of an optimizer has counted; 0 where they are counted elsewhere."""
    return [int(group.get("step", 0)) for group in optimizer.param_groups] if optimizer is not None else []


def fill(optimizer: torch.optim.Optimizer | None, saved: dict[str, Tensor], steps: Sequence[int] = ()) -> None:
    """The inverse of `held_by` and of `steps_of`."""
    if optimizer is None:
        return
    for group, count in zip(optimizer.param_groups, steps, strict=False):
        if count or "step" in group:
            group["step"] = count
    parameters = parameters_of(optimizer)
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in saved.items():
        index, _, slot = name.partition(".")
        slots.setdefault(int(index), {})[slot] = _laid_out_like(parameters[int(index)], value)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A copy of `value` in the memory layout of its parameter: fused optimizers read both in the order of memory."""
    return torch.empty_like(parameter).copy_(value) if value.dim() and value.shape == parameter.shape else value.clone()
