"""The training loop, as a generator that hands back its state after every step.

    for state in training(model, objective, batches, steps=1000):
        print(state.step, state.loss)

Logging, saving, evaluating and stopping are the caller's own `for`. Accelerate chooses devices and joins processes; the
step itself is plain PyTorch, since wrappers cost a small model more than its arithmetic. Nothing here reads the disk.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..errors import ModelFileError, TrainingDiverged, UsageError
from ..models.vae import Model
from ..objectives.adversaries.base import Adversary
from ..objectives.context import Context
from ..objectives.objective import Objective
from ..parallel import SingleProcess
from ..parts import registry
from .batches import read
from .guard import Guard, StepDecision
from .pieces import one_scale
from .snapshots import MAX_ROLLBACKS, Snapshot, check_snapshot, parameters_of, slots_of
from .state import CriticState, State

EMA_EVERY = 8
"""The average is moved once in so many steps: memory traffic is what it costs."""
SNAPSHOT_EVERY = 100
"""Steps between the states that a roll-back can return to."""


def training(
    model: Model,
    objective: Objective,
    batches: Iterable[Any],
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
    accelerator: Accelerator | SingleProcess | None = None,
    resume: Snapshot | None = None,
    population: int = 0,
    adversary: Adversary | None = None,
    critic_optimizer: str = "adamw(lr=4e-4, betas=(0.5, 0.99))",
    clock: Callable[[], float] | None = None,
) -> Iterator[State]:
    """Trains `model` on batches; yields its state every step.

    A batch is a tensor of images (B, C, H, W), uint8 or floats in [0, 1], or a tuple or list of these and labels (B,): what
    a DataLoader gives. Batches that can be gone through again are; an iterator that ends before the budget ends training,
    with a warning. Training ends after `steps` or `minutes`, whichever comes first; a resumed run that has reached its end
    already is yielded once as it is. The learning rate follows `schedule` over that budget. Several processes average their
    gradients. A state's `snapshot()`, given as `resume` with batches that start at its step, continues the run: bit for bit
    on a CPU when the budget is in steps. `population` is the number of images that batches are drawn from, where it is
    known; terms that estimate q(z) use it. An `adversary` learns beside the model, in the same steps and on the same
    schedule, from shortly before a term of the objective first heeds it. `minutes` are read from `clock`, in seconds, the
    wall's by default: `time.process_time` counts what this process computes, whatever else runs.

    Raises:
        TrainingDiverged: losses or gradients stayed non-finite through every roll-back.
        UsageError: no budget, an unknown optimizer or schedule, `compile` with an adversary, no batches, or a first one that
            is no images of the model's shape in [0, 1].
    """
    if compile and adversary is not None:
        raise UsageError("compile=True does not go with an adversary, whose penalties differentiate twice: leave it out")
    if (steps is None and minutes is None) or min(n for n in (steps, minutes) if n is not None) <= 0:
        raise UsageError(f"training needs an end: give steps, minutes or both, above 0; got {steps} and {minutes}")
    accelerator = accelerator or Accelerator()
    clock = clock or time.perf_counter
    _settle(model, accelerator)
    averaged = copy.deepcopy(model).requires_grad_(False) if ema else model
    trained = [p for p in model.parameters() if p.requires_grad]
    state = State(model, averaged, registry.optimizer.make(optimizer, trained), Guard(clip=clip),
                  _rival(adversary, critic_optimizer, clip, accelerator), weights=objective.initial_weights)
    if resume is not None:
        try:
            _check(resume, state, optimizer, critic_optimizer)
            state.restore(resume)
        except (KeyError, RuntimeError, ValueError) as e:
            raise ModelFileError(f"the saved state does not fit this model ({e}); remove the run's state folder to start "
                                 "it again from its beginning") from e
    loop = _Loop(state, objective, accelerator, _Budget(steps, minutes), registry.schedule.make(schedule), ema,
                 accumulate, precision, compile, population)
    state.progress = loop.budget.progress(state)
    if state.progress >= 1:
        yield state
    iterator = read(batches, model, accelerator.device)
    while state.progress < 1:
        began, computed = clock(), time.process_time()
        batch = next(iterator, None)
        if batch is None:
            warnings.warn(f"the batches ended after {state.step} steps, at {state.progress:.0%} of training, before the "
                          "learning rate's schedule did: an iterator can be gone through once. Give what can be gone "
                          "through again, such as a DataLoader or a list, or fewer steps", stacklevel=2)
            return
        loop.step(*batch)
        state.seconds += clock() - began
        state.cpu_seconds += time.process_time() - computed
        state.progress = loop.budget.progress(state)
        yield state


def _check(saved: Snapshot, state: State, optimizer: str, critic_optimizer: str) -> None:
    """Before anything is copied: optimizers write through their tensors without looking at shapes."""
    rival = state.critic.optimizer if state.critic is not None else None
    slots = slots_of("optimizer", state.optimizer, lambda p: registry.optimizer.make(optimizer, p)) | \
        slots_of("critic_optimizer", rival, lambda p: registry.optimizer.make(critic_optimizer, p))
    check_snapshot(saved, state.tensors(), slots)


def _settle(module: nn.Module, accelerator: Accelerator | SingleProcess) -> None:
    module.to(accelerator.device)
    if any(isinstance(m, nn.Conv2d) for m in module.modules()):
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _rival(adversary: Adversary | None, optimizer: str, clip: float,
           accelerator: Accelerator | SingleProcess) -> CriticState | None:
    if adversary is None:
        return None
    _settle(adversary, accelerator)
    own = list(adversary.parameters())
    return CriticState(adversary, registry.optimizer.make(optimizer, own) if own else None, Guard(clip=clip))


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

    def __init__(self, state: State, objective: Objective, accelerator: Accelerator | SingleProcess, budget: _Budget,
                 schedule: Callable[[float], float], ema: float, accumulate: int, precision: str,
                 compile: bool, population: int) -> None:
        self.state, self.objective, self.accelerator, self.budget = state, objective, accelerator, budget
        self.schedule, self.ema, self.accumulate = schedule, ema, accumulate
        self.population = population
        self.bf16 = precision == "bf16"
        self.trained = parameters_of(state.optimizer)
        self.rivals = parameters_of(state.critic.optimizer if state.critic is not None else None)
        self.peaks = [float(group["lr"]) for group in self._groups()]
        self.pairs = _ema_pairs(state)
        self.good: deque[Snapshot] = deque([state.snapshot()], maxlen=2)
        self.losses_of = torch.compile(self._losses, fullgraph=True) if compile else self._losses

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        rival = self.state.critic
        return [self.state.optimizer, *([rival.optimizer] if rival is not None and rival.optimizer is not None else [])]

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self._optimizers() for group in optimizer.param_groups]

    def _losses(self, x: Tensor, y: Tensor | None, progress: Tensor, rival: Adversary | None, heard: bool) -> Tensor:
        """Batch means of the terms, and the critic's loss, (terms + 1,); the terms are 0 where the model is not `heard`."""
        model, objective = self.state.model, self.objective
        with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.bf16):
            with torch.set_grad_enabled(heard):
                trace = model(x, samples=objective.samples, y=y)
                adversarial = rival(model, trace) if rival is not None else None
                context = Context(progress, self.population, adversarial)
                parts = objective.parts(trace, context) if heard else x.new_zeros(len(objective.terms))
            critic = adversarial.critic_loss() if adversarial is not None else parts.new_zeros(())
        return torch.cat([parts, critic[None]])

    def step(self, x: Tensor, y: Tensor | None) -> None:
        state = self.state
        state.event = ""
        if not state.model.training:
            state.model.train()
        for group, peak in zip(self._groups(), self.peaks, strict=True):
            group["lr"] = peak * self.schedule(state.progress) * state.lr_scale
        rival = self._playing()
        heard = rival is None or rival.optimizer is None or state.step % rival.adversary.game.steps == 0
        losses = self._backward(x, y, rival.adversary if rival is not None else None, heard)
        gradients = [[p.grad for p in each if p.grad is not None] for each in (self.trained, self.rivals)]
        norms = [_norm(g, like=losses) for g in gradients]
        *values, critic_loss, norm, critic_norm = torch.cat([losses, *norms]).tolist()
        state.critic_loss = critic_loss if rival is not None else float("nan")
        verdicts: list[StepDecision] = []
        if heard:
            state.grad_norm = norm
            state.parts = dict(zip(self.objective.names, values, strict=True))
            state.loss = sum(w * v for w, v in zip(self._weights(), values, strict=True))
            falls = state.loss if rival is None else math.nan  # that of a game goes either way
            verdicts.append(state.guard.judge(self.objective.names, values, norm, falls))
        if rival is not None:
            verdicts.append(rival.guard.judge(["critic"], [critic_loss], critic_norm))
        self._take(gradients, verdicts, heard)
        state.step += 1
        state.images += len(x) * self.accelerator.num_processes
        self._after(verdicts)

    def _playing(self) -> CriticState | None:
        """The second player, from `warmup` before the objective heeds it."""
        rival = self.state.critic
        if rival is None:
            return None
        now, soon = self.state.progress, min(self.state.progress + rival.adversary.game.warmup, 1.0)
        return rival if self.objective.uses_critic(now) or self.objective.uses_critic(soon) else None

    def _take(self, gradients: list[list[Tensor]], verdicts: list[StepDecision], heard: bool) -> None:
        """Moves the players that have gradients; none of them where one has to leave the step out."""
        bad = next((v for v in verdicts if not v.scale), None)
        if bad is not None:
            self.state.event = f"step skipped: {bad.reason}"
            return
        optimizers = self._optimizers() if heard else self._optimizers()[1:]
        moved = [g for g in (gradients if heard else gradients[1:]) if g]
        for optimizer, own, verdict in zip(optimizers, moved, verdicts, strict=False):
            if verdict.scale < 1:
                torch._foreach_mul_(own, verdict.scale)  # pyright: ignore
            optimizer.step()
        if heard:
            self.state.weights = self.objective.updated(self.state.weights, self.state.parts)

    def _weights(self) -> list[float]:
        """Of the objective's terms, in this step."""
        return self.objective.weights(self.state.progress, self.state.weights)

    def _backward(self, x: Tensor, y: Tensor | None, rival: Adversary | None, heard: bool) -> Tensor:
        """Accumulates the gradients of the weighted terms and of the critic's loss; returns their means, (terms + 1,)."""
        for optimizer in self._optimizers():
            optimizer.zero_grad(set_to_none=True)
        weights = torch.tensor([*self._weights(), 1.0], device=self.accelerator.device)
        total = torch.zeros_like(weights)
        progress = torch.tensor(self.state.progress, device=self.accelerator.device)
        labels = y.chunk(self.accumulate) if y is not None else [None] * self.accumulate
        pieces = [*zip(x.chunk(self.accumulate), labels, strict=False)]
        with one_scale(self.state.model, pieces if heard else [], self.accelerator, self.objective.samples, self.bf16):
            for chunk, known in pieces:
                losses = self.losses_of(chunk, known, progress, rival, heard) * (len(chunk) / len(x))
                (losses * weights).sum().backward()
                total += losses.detach()
        return self._average(total) if self.accelerator.num_processes > 1 else total

    def _average(self, losses: Tensor) -> Tensor:
        """Means of gradients, losses and elapsed time over the processes, in one exchange."""
        everyone = self.trained + self.rivals
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in everyone]
        seconds = losses.new_tensor([self.state.seconds])
        vector: Any = self.accelerator.reduce(torch.cat([g.flatten() for g in gradients] + [losses, seconds]), "mean")
        offset = 0
        for p, g in zip(everyone, gradients, strict=True):
            p.grad = torch.empty_like(p).copy_(vector[offset : offset + g.numel()].view_as(g))
            offset += g.numel()
        self.state.seconds = float(vector[-1])
        return vector[offset:-1]

    def _after(self, verdicts: list[StepDecision]) -> None:
        state = self.state
        failed = next((v for v in verdicts if v.roll_back), None)
        if failed is not None:
            self._roll_back(failed.reason)
        elif state.step % SNAPSHOT_EVERY == 0 and all(v.scale for v in verdicts):
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


def _norm(gradients: list[Tensor], like: Tensor) -> Tensor:
    """Norm of all gradients together, (1,)."""
    if not gradients:
        return like.new_zeros(1)
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))[None]  # pyright: ignore


def _ema_pairs(state: State) -> tuple[list[Tensor], list[Tensor]] | None:
    """Floating-point tensors of the average and of the model, in the same order."""
    if state.ema is state.model:
        return None
    averaged, current = state.ema.state_dict(), state.model.state_dict()
    names = [k for k, v in current.items() if v.is_floating_point()]
    return [averaged[k] for k in names], [current[k] for k in names]
