"""The training loop, as a generator that hands back its state after every step.

    for state in training(model, objective, batches, steps=1000):
        print(state.step, state.loss)

Logging, saving, evaluating and stopping are the caller's own `for`. Accelerate chooses devices and joins processes; the
step itself is plain PyTorch, since wrappers cost a small model more than its arithmetic. Nothing here reads the disk.
"""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from . import registry
from .errors import ModelFileError, TrainingDiverged, UsageError
from .guard import Guard, Verdict
from .objective import Objective
from .vae import VAE

EMA_EVERY = 8
"""The average is moved once in so many steps: memory traffic is what it costs."""
SNAPSHOT_EVERY = 250
"""Steps between the states that a roll-back can return to."""
MAX_ROLLBACKS = 8

Batch = Tensor | tuple[Tensor, Tensor]
"""Images x (B, C, H, W) in [0, 1], or with them class labels y (B,), −1 where there is none."""
Snapshot = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors and numbers that continue a run exactly."""


@dataclass
class State:
    """Where training stands after a step."""

    model: VAE
    ema: VAE
    """The averaged weights, which everything after training uses."""
    optimizer: torch.optim.Optimizer
    guard: Guard
    step: int = 0
    images: int = 0
    """Images seen, over all processes."""
    seconds: float = 0.0
    """Time spent in steps; what the caller does between them does not count."""
    progress: float = 0.0
    """0 at the start, 1 at the end of the budget."""
    parts: dict[str, float] = field(default_factory=dict[str, float])
    """Batch mean of each term, nats per example."""
    loss: float = float("nan")
    grad_norm: float = float("nan")
    lr_scale: float = 1.0
    """Halved by every roll-back."""
    rollbacks: int = 0
    event: str = ""
    """What happened in this step that is out of the ordinary."""

    def snapshot(self) -> Snapshot:
        """A copy of all that the next steps depend on."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        if self.ema is not self.model:
            tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        for i, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{k}": v for k, v in slots.items()}
        tensors["rng.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["rng.cuda"] = torch.cuda.get_rng_state()
        numbers = {k: getattr(self, k) for k in ("step", "images", "seconds", "progress", "lr_scale", "rollbacks")}
        return {k: v.detach().clone() for k, v in tensors.items()}, {**numbers, "guard": self.guard.to_dict()}

    def restore(self, saved: Snapshot, *, weights_only: bool = False) -> None:
        """Returns to a snapshot; with `weights_only`, time and random numbers go on."""
        tensors, numbers = saved
        groups: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            head, _, rest = name.partition(".")
            groups.setdefault(head, {})[rest] = value
        self.model.load_state_dict(groups["model"])
        if self.ema is not self.model:
            self.ema.load_state_dict(groups["ema"])
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in groups.get("optimizer", {}).items():
            index, _, slot = name.partition(".")
            slots.setdefault(int(index), {})[slot] = _laid_out_like(parameters[int(index)], value)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": slots})
        if weights_only:
            return
        torch.set_rng_state(groups["rng"]["cpu"].cpu())
        if "cuda" in groups["rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state(groups["rng"]["cuda"].cpu())
        for k in ("step", "images", "seconds", "progress", "lr_scale", "rollbacks"):
            setattr(self, k, numbers[k])
        self.guard.load(numbers["guard"])


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A copy of `value` in the memory layout of its parameter: fused optimizers read both in the order of memory."""
    return torch.empty_like(parameter).copy_(value) if value.dim() and value.shape == parameter.shape else value.clone()


def training(
    model: VAE,
    objective: Objective,
    batches: Iterable[Batch],
    *,
    steps: int | None = None,
    minutes: float | None = None,
    optimizer: str = "adamw(lr=2e-3)",
    schedule: str = "cosine(warmup=0.05)",
    clip: float = 2.0,
    ema: float = 0.999,
    accumulate: int = 1,
    precision: str = "float32",
    compile: bool = False,
    accelerator: Accelerator | None = None,
    resume: Snapshot | None = None,
    population: int = 0,
) -> Iterator[State]:
    """Trains `model` on `batches` of (B, C, H, W) in [0, 1], or pairs of these and labels; yields its state every step.

    Ends after `steps` or `minutes`, whichever comes first, or with the batches; a resumed run that has reached its end
    already is yielded once as it is. The learning rate follows `schedule`
    over that budget. Several processes average their gradients. A state's `snapshot()`, given as `resume` with batches
    that start at its step, continues the run: bit for bit on a CPU when the budget is in steps. `population` is the number
    of images that batches are drawn from, where it is known; terms that estimate q(z) use it.

    Raises:
        TrainingDiverged: losses or gradients stayed non-finite through every roll-back.
        UsageError: no budget, or an unknown optimizer or schedule.
    """
    if (steps is None and minutes is None) or min(n for n in (steps, minutes) if n is not None) <= 0:
        raise UsageError(f"training needs an end: give steps, minutes or both, above 0; got {steps} and {minutes}")
    accelerator = accelerator or Accelerator()
    model.to(accelerator.device)
    if any(isinstance(m, nn.Conv2d) for m in model.modules()):
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    averaged = copy.deepcopy(model).requires_grad_(False) if ema else model
    trained = [p for p in model.parameters() if p.requires_grad]
    state = State(model, averaged, registry.optimizer.make(optimizer, trained), Guard(clip=clip))
    if resume is not None:
        try:
            state.restore(resume)
        except (KeyError, RuntimeError, ValueError) as e:
            raise ModelFileError(f"the saved state does not fit this model ({e}); remove the run's state folder to start "
                                 "it again from its beginning") from e
    loop = _Loop(state, objective, accelerator, _Budget(steps, minutes), registry.schedule.make(schedule), ema,
                 accumulate, precision, compile, population)
    state.progress = loop.budget.progress(state)
    if state.progress >= 1:
        yield state
    iterator = iter(batches)
    while state.progress < 1:
        began = time.perf_counter()
        batch = next(iterator, None)
        if batch is None:
            return
        loop.step(batch)
        state.seconds += time.perf_counter() - began
        state.progress = loop.budget.progress(state)
        yield state


@dataclass(frozen=True)
class _Budget:
    steps: int | None
    minutes: float | None

    def progress(self, state: State) -> float:
        by_steps = state.step / self.steps if self.steps else 0.0
        by_time = state.seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(max(by_steps, by_time), 1.0)


class _Loop:
    """One run's step, with what it needs at hand."""

    def __init__(self, state: State, objective: Objective, accelerator: Accelerator, budget: _Budget,
                 schedule: Callable[[float], float], ema: float, accumulate: int, precision: str,
                 compile: bool, population: int) -> None:
        self.state, self.objective, self.accelerator, self.budget = state, objective, accelerator, budget
        self.schedule, self.ema, self.accumulate = schedule, ema, accumulate
        self.population = population
        self.bf16 = precision == "bf16"
        self.peaks = [float(g["lr"]) for g in state.optimizer.param_groups]
        self.trained = [p for g in state.optimizer.param_groups for p in g["params"]]
        self.pairs = _ema_pairs(state)
        self.good: deque[Snapshot] = deque([state.snapshot()], maxlen=2)
        self.parts_of = torch.compile(self._parts, fullgraph=True) if compile else self._parts

    def _parts(self, x: Tensor, y: Tensor | None, progress: Tensor) -> Tensor:
        with self._autocast():
            return self.objective.parts(self.state.model(x, samples=self.objective.samples, y=y, progress=progress,
                                                         population=self.population))

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.bf16)

    def step(self, batch: Batch) -> None:
        x, y = batch if isinstance(batch, tuple) else (batch, None)
        state = self.state
        state.event = ""
        if not state.model.training:
            state.model.train()
        for group, peak in zip(state.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * self.schedule(state.progress) * state.lr_scale
        parts = self._backward(x, y)
        gradients = [p.grad for p in self.trained if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))  # pyright: ignore
        *values, state.grad_norm = torch.cat([parts, norm[None]]).tolist()
        state.parts = dict(zip(self.objective.names, values, strict=True))
        state.loss = sum(w * v for w, v in zip(self.objective.weights(state.progress), values, strict=True))
        verdict = state.guard.judge(self.objective.names, values, state.grad_norm)
        if verdict.scale:
            if verdict.scale < 1:
                torch._foreach_mul_(gradients, verdict.scale)  # pyright: ignore
            state.optimizer.step()
        else:
            state.event = f"step left out: {verdict.reason}"
        state.step += 1
        state.images += len(x) * self.accelerator.num_processes
        self._after(verdict)

    def _backward(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Accumulates the gradient of the weighted terms; returns the terms' means, (terms,)."""
        self.state.optimizer.zero_grad(set_to_none=True)
        weights = torch.tensor(self.objective.weights(self.state.progress), device=self.accelerator.device)
        total = torch.zeros_like(weights)
        progress = torch.tensor(self.state.progress, device=self.accelerator.device)
        labels = y.chunk(self.accumulate) if y is not None else [None] * self.accumulate
        for chunk, known in zip(x.chunk(self.accumulate), labels, strict=False):
            parts = self.parts_of(chunk, known, progress) * (len(chunk) / len(x))
            (parts * weights).sum().backward()
            total += parts.detach()
        return self._average(total) if self.accelerator.num_processes > 1 else total

    def _average(self, parts: Tensor) -> Tensor:
        """Means of gradients, terms and elapsed time over the processes, in one exchange."""
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.trained]
        seconds = parts.new_tensor([self.state.seconds])
        vector: Any = self.accelerator.reduce(torch.cat([g.flatten() for g in gradients] + [parts, seconds]), "mean")
        offset = 0
        for p, g in zip(self.trained, gradients, strict=True):
            p.grad = torch.empty_like(p).copy_(vector[offset : offset + g.numel()].view_as(g))
            offset += g.numel()
        self.state.seconds = float(vector[-1])
        return vector[offset:-1]

    def _after(self, verdict: Verdict) -> None:
        state = self.state
        if verdict.roll_back:
            self._roll_back(verdict.reason)
        elif state.step % SNAPSHOT_EVERY == 0 and verdict.scale:
            self.good.append(state.snapshot())
        if self.pairs and state.step % EMA_EVERY == 0:
            decay = min(self.ema, (1 + state.step) / (10 + state.step)) ** EMA_EVERY
            averaged, current = self.pairs
            torch._foreach_lerp_(averaged, current, 1 - decay)  # pyright: ignore

    def _roll_back(self, reason: str) -> None:
        state = self.state
        state.rollbacks += 1
        if state.rollbacks > MAX_ROLLBACKS:
            raise TrainingDiverged(
                f"training diverged at step {state.step}: {reason}, still after {MAX_ROLLBACKS} returns to an earlier "
                f"state and a learning rate {1 / state.lr_scale:.0f} times lower. Lower it further, or try another "
                "likelihood or a smaller network")
        state.restore(self.good[0], weights_only=True)
        state.lr_scale /= 2
        state.event = (f"rolled back to step {self.good[0][1]['step']} at half the learning rate: {reason} for "
                       f"{state.guard.patience} steps in a row")


def _ema_pairs(state: State) -> tuple[list[Tensor], list[Tensor]] | None:
    """Floating-point tensors of the average and of the model, in the same order."""
    if state.ema is state.model:
        return None
    averaged, current = state.ema.state_dict(), state.model.state_dict()
    names = [k for k, v in current.items() if v.is_floating_point()]
    return [averaged[k] for k in names], [current[k] for k in names]
