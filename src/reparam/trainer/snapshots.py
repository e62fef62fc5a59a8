"""Snapshots, from which a training run continues, and the check that one fits the run before it is copied."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict, cast

import torch
from torch import Tensor, nn

from ..files.untrusted import Amount, Count, Malformed, Share, Within, conform, not_finite

Snapshot = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors and numbers from which a run continues exactly."""
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


def check_snapshot(saved: Snapshot, wanted: Mapping[str, Tensor], slots: Mapping[str, Tensor]) -> None:
    """Compares a snapshot with the tensors that it is to be copied into: names, types and shapes, then values.

    `slots` are those among the wanted that are the optimizers', which a parameter without a gradient lacks.

    Raises:
        ValueError: what does not fit.
    """
    tensors, numbers = saved
    conform(numbers, Numbers)
    for name in sorted(wanted.keys() - slots.keys() - tensors.keys()):
        if name != "rng.cuda":  # begun on a machine without
            raise Malformed(f"{name} is missing")
    for name, value in tensors.items():
        like = wanted.get(name)
        if name == "rng.cuda" and like is None:  # begun on a machine with one
            continue
        if like is None:
            raise Malformed(f"{name} is not expected")
        if (value.dtype, value.shape) != (like.dtype, like.shape):
            raise Malformed(f"{name} is {described(value)}, not {described(like)}")
    _check_slots(tensors, slots)
    if (name := not_finite(tensors)) is not None:
        raise Malformed(f"{name} holds values that are not finite")


def _check_slots(tensors: Mapping[str, Tensor], slots: Mapping[str, Tensor]) -> None:
    """A parameter has all of its slots or none."""
    begun = {_parameter(name) for name in slots if name in tensors}
    for name in slots:
        if _parameter(name) in begun and name not in tensors:
            raise Malformed(f"{name} is missing")


def _parameter(slot: str) -> str:
    """Whose slot it is: 'optimizer.3' of 'optimizer.3.exp_avg'."""
    return ".".join(slot.split(".")[:2])


def described(tensor: Tensor) -> str:
    """Type and shape of a tensor, 'float32 (3, 4)'."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def begin(optimizer: torch.optim.Optimizer | None, make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> None:
    """Gives an optimizer the state that it has after a step, for a saved one to take the place of: one step of another such
    optimizer is taken for each shape."""
    by_shape: dict[tuple[torch.dtype, torch.Size], dict[str, Any]] = {}
    for p in parameters_of(optimizer):
        if (p.dtype, p.shape) not in by_shape:
            by_shape[p.dtype, p.shape] = _after_a_step(p, make)
        cast(Any, optimizer).state[p] = by_shape[p.dtype, p.shape]


def _after_a_step(p: Tensor, make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> dict[str, Any]:
    probe = nn.Parameter(torch.zeros_like(p))
    probe.grad = torch.zeros_like(p)
    optimizer = make([probe])
    optimizer.step()
    return optimizer.state[probe]


def parameters_of(optimizer: torch.optim.Optimizer | None) -> list[nn.Parameter]:
    """All of an optimizer's parameters, in its order."""
    return [p for group in optimizer.param_groups for p in group["params"]] if optimizer is not None else []


def held_by(name: str, optimizer: torch.optim.Optimizer | None) -> dict[str, Tensor]:
    """An optimizer's tensors by name: 'optimizer.3.exp_avg', or 'optimizer.3.bases.0' of a list."""
    held = optimizer.state_dict()["state"] if optimizer is not None else {}
    return dict(_named(held, name))


def _named(held: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested dicts and lists, by their path."""
    if isinstance(held, Tensor):
        yield name, held
    elif isinstance(held, dict | list | tuple):
        inside = cast(dict[Any, Any], held).items() if isinstance(held, dict) else enumerate(cast(list[Any], held))
        for key, value in inside:
            yield from _named(value, f"{name}.{key}")


def steps_of(optimizer: torch.optim.Optimizer | None) -> list[int]:
    """The steps that each group of an optimizer has counted; 0 where they are counted elsewhere."""
    return [int(group.get("step", 0)) for group in optimizer.param_groups] if optimizer is not None else []


def fill(optimizer: torch.optim.Optimizer | None, saved: dict[str, Tensor], steps: Sequence[int] = ()) -> None:
    """The inverse of `held_by` and of `steps_of`, for an optimizer that has stepped or begun: what is no tensor in its state
    stays as it is."""
    if optimizer is None:
        return
    for group, count in zip(optimizer.param_groups, steps, strict=False):
        if count or "step" in group:
            group["step"] = count
    parameters = parameters_of(optimizer)
    saved_of = {int(name.partition(".")[0]) for name in saved}
    slots = {i: _refilled(optimizer.state[parameters[i]], f"{i}", saved, parameters[i]) for i in sorted(saved_of)}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})


def _refilled(held: Any, name: str, saved: Mapping[str, Tensor], parameter: Tensor) -> Any:
    """Nested dicts and lists with other tensors in the places of theirs."""
    if isinstance(held, Tensor):
        return _laid_out_like(parameter, saved[name])
    if isinstance(held, dict):
        return {k: _refilled(v, f"{name}.{k}", saved, parameter) for k, v in cast(dict[Any, Any], held).items()}
    if isinstance(held, list | tuple):
        return [_refilled(v, f"{name}.{k}", saved, parameter) for k, v in enumerate(cast(list[Any], held))]
    return held


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A copy of `value` in the memory layout of its parameter: fused optimizers read both in the order of memory."""
    return torch.empty_like(parameter).copy_(value) if value.dim() and value.shape == parameter.shape else value.clone()
